"""What this machine and its file systems are, and work that its processes share."""
