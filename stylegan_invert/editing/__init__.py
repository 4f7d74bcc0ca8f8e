"""Edits of codes: style mixing, means of groups, and directions in latent space and the ways to find them."""
