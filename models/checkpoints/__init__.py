"""Model folders and files: read, loaded, trusted or not, and written."""
