"""What a run tells while it goes on: lines, metrics.jsonl, TensorBoard, profiles, and the alarms that figures raise."""
