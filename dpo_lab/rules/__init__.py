"""What does not go together."""
