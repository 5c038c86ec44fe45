"""Losses: one paper, one file; pure functions of policy and reference log-probabilities."""
