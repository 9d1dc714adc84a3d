"""From files to batches: corpora, audio, text, batches. Nothing here knows a model or the trainer."""
