"""Policy optimizers, one file each, and the batch that they learn from."""
