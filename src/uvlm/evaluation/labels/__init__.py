"""Metrics of labels and of their probabilities."""
