"""Speech encoders with a CTC head: build, load, compute, export. transformers' parameters, our own arithmetic."""
