"""The parts of scripts.bench.gpu_check. Each is a command of its own that writes what it finds at once."""
