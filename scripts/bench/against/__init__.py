"""What scripts.bench.benchmark is made of: workloads, the two sides that run them, and the report."""
