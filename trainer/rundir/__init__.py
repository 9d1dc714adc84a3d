"""The files of runs/NAME: checkpoints, logs, results, the lock; and the alarms that the logs raise."""
