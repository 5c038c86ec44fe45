"""An adapter merged into one plain model, and checked."""
