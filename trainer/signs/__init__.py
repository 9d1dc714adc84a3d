"""What can be seen to be wrong with an utterance without a model: in its audio, its text, and among the others.

`planting` makes such faults, to see what finds them.
"""
