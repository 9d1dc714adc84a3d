"""From a configuration to a run short of its first step: corpus, model, table of features, first screen, `--check`."""
