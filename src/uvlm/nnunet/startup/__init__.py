"""The folder that `uvlm nnunet path --startup` prints, for PYTHONPATH."""
