"""Corrections of a corpus that stand in files of their own: utterances left out, transcripts replaced."""
