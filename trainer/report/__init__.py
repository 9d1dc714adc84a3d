"""The report of a run (report.html) and the comparison of two runs: pages to hear, see and search utterances."""
