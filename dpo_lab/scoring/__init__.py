"""Scoring: log-probabilities of responses under a model, and of pairs by index."""
