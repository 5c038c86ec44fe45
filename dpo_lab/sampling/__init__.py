"""Sampling: several answers of a model to each prompt."""
