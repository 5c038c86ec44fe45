"""Stages: each a component with run(); they meet only on disk."""
