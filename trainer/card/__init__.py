"""The model card of a run, and the upload of a model with it."""
