"""The table of features: a frozen feature encoder's output, computed once, kept in memory and in one file."""
