"""Ranking: scores for candidates, and preference pairs from scores."""
