"""Tasks of lm-evaluation-harness: what they are called, and how a model is asked; `lm_eval` is imported below here alone."""
