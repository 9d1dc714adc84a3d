"""Commands that a user calls, each `python -m scripts.NAME`."""
