"""Training: data, losses, augmentation, the loop, and its checkpoints."""
