"""Saved views of W&B for runs of ours: which panels they have, and how W&B is told of them."""
