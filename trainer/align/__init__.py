"""Known text to the times at which it is said (docs/align.md): lattice, best path, times from spikes, files."""
