"""Metrics of report texts."""
