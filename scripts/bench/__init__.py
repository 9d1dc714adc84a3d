"""How fast it is, and what it costs: commands that measure this project."""
