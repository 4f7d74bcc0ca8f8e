"""Ordinary files: codes, the Gaussian of V, downloads, and writing that leaves nothing half-written."""
