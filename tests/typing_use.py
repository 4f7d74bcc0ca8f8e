"""A user's code."""
