"""The package llm-blender as a ranker."""
