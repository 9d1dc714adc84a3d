"""The training system. Imports nothing, so that a command line is parsed before torch is loaded."""

import os

# Before torch loads OpenMP: threads that wait for each other sleep instead of spinning. Where two processes share
# two cores a training step takes 0.6 s instead of 3 s (docs/benchmarks.md); on an idle machine nothing is lost.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
