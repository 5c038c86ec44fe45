"""Preference data in: files, layouts, validation, and the split by prompt."""
