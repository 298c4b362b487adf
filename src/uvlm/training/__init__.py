"""Tasks, the one training loop, checkpoints and recipes."""
