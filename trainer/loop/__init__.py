"""Training itself: the loop, one step of it, the optimizer and its schedule, the state that a checkpoint holds."""
