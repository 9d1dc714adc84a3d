"""Decoding with more than the best unit of each frame: n-gram models, prefix beam search, hot words, tuned weights."""
