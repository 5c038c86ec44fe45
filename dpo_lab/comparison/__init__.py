"""Runs beside one another: what became of the jobs of a sweep, which run is best and by more than chance, and the page."""
