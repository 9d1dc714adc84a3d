"""Commands that measure this project: speed, memory, the cost of saving."""
