"""One file per step of progressive training."""
