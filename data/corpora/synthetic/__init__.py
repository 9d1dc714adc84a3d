"""A TIMIT-shaped corpus made on the spot by a speech synthesizer."""
