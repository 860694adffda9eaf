"""Training: scenes, data, the loop, checkpoints."""
