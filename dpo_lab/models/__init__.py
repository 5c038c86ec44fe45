"""Models: what a model is made of, how it is loaded, and the tiny one that needs no download."""
