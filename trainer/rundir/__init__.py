"""The files of runs/NAME: checkpoints, logs, results, the lock."""
