"""All runs of a folder: what each one is and where it stands, as a table, a page, and for a tracker."""
