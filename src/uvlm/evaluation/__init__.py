"""Metrics over arrays, texts and files; never over models."""
