"""Training: data, settings, the training loop, checkpoints and engines."""
