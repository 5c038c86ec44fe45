"""Evaluation: what held-out pairs and held-out prompts say about a policy."""
