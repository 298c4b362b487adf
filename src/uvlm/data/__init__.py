"""Catalog and store to batches."""
