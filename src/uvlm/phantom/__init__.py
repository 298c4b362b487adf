"""Synthetic CT studies with masks, labels and reports that are true of the image."""
