"""Which utterances make a batch, and the tensors that a batch holds."""
