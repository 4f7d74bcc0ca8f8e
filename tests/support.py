"""Helpers of several tests."""

import numpy as np


def assert_close(name, got, expected, tolerance):
    """Equal within ``tolerance`` of the expected array's largest value."""
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, expected {expected.shape}"
    scale = np.abs(expected).max(initial=0)
    error = np.abs(got - expected).max(initial=0)
    assert error <= tolerance * max(scale, 1e-30), f"{name}: differs by {error:.2e} on a scale of {scale:.2e}"


def assert_same_outputs(got, expected):
    """The tolerances of the format: 1e-5 of the scale for what networks compute, 1e-4 for gradients."""
    assert set(got) == set(expected)
    for name in expected:
        assert_close(name, got[name], expected[name], 1e-4 if "gradient" in name else 1e-5)


def load_npz(path):
    """The arrays of an .npz file, by name, with the file closed again."""
    with np.load(path) as data:
        return dict(data)
