"""Preference data sets and trained models as folders for the Hugging Face Hub, with their cards, and their upload."""
