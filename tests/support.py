"""Helper functions that several test files use."""

import numpy as np

# Settings of a projection into W that draws no random numbers, which every kind of device draws differently.
NOTHING_DRAWN = {"steps": 20, "initial_noise_factor": 0, "noise_maps": "fixed"}


def assert_close(name, got, expected, tolerance):
    """Check that no entry differs by more than ``tolerance`` times the largest size of an expected entry."""
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, expected {expected.shape}"
    scale = np.abs(expected).max(initial=0)
    error = np.abs(got - expected).max(initial=0)
    assert error <= tolerance * max(scale, 1e-30), f"{name}: differs by {error:.2e} on a scale of {scale:.2e}"


def assert_same_outputs(got, expected):
    """Compare outputs of a network, by name: to 1e-5 of their scale, and gradients to 1e-4."""
    assert set(got) == set(expected)
    for name in expected:
        assert_close(name, got[name], expected[name], 1e-4 if "gradient" in name else 1e-5)


def load_npz(path):
    """The arrays of an .npz file, by name, with the file closed again."""
    with np.load(path) as data:
        return dict(data)
