"""Volumes, readers, transforms, the store and measurements. Nothing imports torch at import."""
