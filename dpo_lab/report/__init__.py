"""Reports: what a run tells a person at its end."""
