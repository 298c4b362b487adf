"""Metrics of masks, and lesions detected in them."""
