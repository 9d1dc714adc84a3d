"""Fine-tune a speech encoder with CTC. `run` is the command, `session` the story of a run, `closing` its end."""
