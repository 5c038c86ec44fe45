"""DPO Lab: sample, rank, pair, train with Direct Preference Optimization, evaluate, repeat."""

__version__ = "0.1.0"
