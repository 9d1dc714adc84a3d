"""Speech encoders with a CTC head: built, loaded, computed, exported. transformers' parameters, our own arithmetic."""
