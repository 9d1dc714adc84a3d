"""From a configuration to a run ready for its first step: corpus, model, table of features, first screen, `--check`."""
