"""From utterances to examples: what can be trained on and what is scored, and what is said of the rest."""
