"""Trainers and plans found by nnU-Net: the published commands over this package's own training."""
