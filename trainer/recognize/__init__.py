"""A trained model at work: recordings to words with times, their file formats, the page, the ONNX check."""
