"""Which utterances of a corpus are likely wrong, and why: what a person should listen to first."""
