"""The same numbers as transformers' Trainer: commands and modules that show it."""
