"""Reports led by the classifier."""
