"""Tokens: chat template, prompt boundary, truncation, and the store that everything after it reads."""
