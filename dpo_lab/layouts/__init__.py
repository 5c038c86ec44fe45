"""Layouts: how responses of a token store become the inputs of a transformer."""
