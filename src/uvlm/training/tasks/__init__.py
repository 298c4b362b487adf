"""One module per task of progressive training."""
