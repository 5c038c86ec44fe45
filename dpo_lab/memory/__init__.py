"""Does it fit: what a training needs, and what the machine has."""
