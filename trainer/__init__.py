"""Fine-tune a speech encoder with CTC. `run` is the command, `session` runs it from start to end, `closing` ends it."""
