"""Transcripts: how they are normalised, and which units they are written in."""
