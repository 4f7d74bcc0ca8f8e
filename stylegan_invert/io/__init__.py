"""Ordinary files: latent codes, the Gaussian of V, downloads, and writing that leaves no half-written file behind."""
