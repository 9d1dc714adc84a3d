"""Use a trained model: recordings to words with times, transcript formats, the page, the ONNX check."""
