"""Where the figures of a run go; metrics.jsonl is the truth."""
