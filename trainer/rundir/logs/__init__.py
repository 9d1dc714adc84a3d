"""What a run tells while it goes on: lines, metrics.jsonl, TensorBoard, and profiles."""
