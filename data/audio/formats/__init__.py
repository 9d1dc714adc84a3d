"""What each container holds, read by its own rules: how many samples it truly has, and where they lie."""
