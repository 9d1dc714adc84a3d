"""The loss of each utterance at each visit and each evaluation, in files that only grow."""
