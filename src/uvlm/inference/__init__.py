"""A study in, Findings out."""
