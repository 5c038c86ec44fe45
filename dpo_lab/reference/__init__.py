"""References: what the frozen model says of the same responses, and where that is kept."""
