"""Many utterances and many processes: plans, starts, steps and reading."""
