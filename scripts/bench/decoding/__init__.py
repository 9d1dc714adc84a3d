"""Decoding, confidence and streaming: how fast and how good they are."""
