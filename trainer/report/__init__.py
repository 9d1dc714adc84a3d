"""report.html of a run and the comparison of two: what to hear, to see and to search."""
