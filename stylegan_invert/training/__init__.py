"""Training: settings, losses, augmentation, the GAN trainer, and the loop with its checkpoints."""
