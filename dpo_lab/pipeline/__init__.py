"""One file makes one kind of artifact; rounds.py runs them in order."""
