"""Commands and modules that show that training here computes the same numbers as transformers' Trainer."""
