"""What lies in runs/NAME: checkpoints, logs, results, the lock; and what the logs say while they grow."""
