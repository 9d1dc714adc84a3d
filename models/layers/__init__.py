"""The arithmetic of an encoder's layers, on transformers' parameters; models.ctc puts it together."""
