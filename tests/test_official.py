"""Equality with NVIDIA's code, where a checkout of it is given. It runs in processes of its own (official.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import stylegan_invert as si

HERE = Path(__file__).parent
CONFIGS = json.loads((HERE / "official_configs.json").read_text())
REPOS = {
    "ada": ("STYLEGAN2_ADA_REPO", "stylegan2-ada-pytorch"),
    "sg3": ("STYLEGAN3_REPO", "stylegan3"),
}


def official(repo, *args):
    variable, name = REPOS[repo]
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to a checkout of NVlabs/{name} to compare with it")
    command, *rest = args
    result = subprocess.run(
        [sys.executable, HERE / "official.py", command, os.environ[variable], *map(str, rest)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]


def flat(config):
    """The same configuration as stylegan3 spells it, which takes the synthesis arguments directly."""
    g = {**config["G"], **config["G"].get("synthesis_kwargs", {})}
    g.pop("synthesis_kwargs", None)
    return {**config, "G": g}


@pytest.fixture(scope="session", params=REPOS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    configs = CONFIGS if request.param == "ada" else {k: flat(v) for k, v in CONFIGS.items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    official(request.param, "make", folder / "configs.json", folder)
    return request.param, folder


def assert_close(name, got, expected, tolerance):
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else got
    assert got.shape == expected.shape, name
    error = np.abs(got - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30)
    assert error <= tolerance, f"{name}: {error:.2e} of its scale"


def compare(net, expected, fused=False):
    G, D = net.G, net.D
    c = torch.from_numpy(expected["c"])
    z = torch.from_numpy(expected["z"])
    ws = G.mapping(z, c)
    assert_close("ws", ws, expected["ws"], 1e-5)
    if hasattr(G.mapping, "w_avg"):
        assert_close("truncated", G.mapping(z, c, truncation_psi=0.7, truncation_cutoff=2), expected["truncated"], 1e-5)
    leaf = torch.from_numpy(expected["ws"]).requires_grad_(True)
    image = G.synthesis(leaf, noise_mode="const", fused_modconv=fused)
    weights = np.random.RandomState(0)
    n = len(expected["z"])
    weights.randn(n, G.z_dim), weights.randint(max(G.c_dim, 1), size=n)
    (image * torch.from_numpy(weights.randn(*image.shape).astype(np.float32))).sum().backward()
    assert_close("image", image, expected["image"], 1e-5)
    assert_close("image without noise", G.synthesis(ws, noise_mode="none"), expected["image_none"], 1e-5)
    assert_close("gradient", leaf.grad, expected["grad"], 1e-4)
    if "logits" in expected:
        x = torch.from_numpy(expected["image"]).requires_grad_(True)
        logits = D(x, c)
        logits.sum().backward()
        assert_close("logits", logits, expected["logits"], 1e-5)
        assert_close("gradient of logits", x.grad, expected["logits_grad"], 1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("fused", [False, True])
def test_official_files_compute_the_same_here(made, name, fused):
    _, folder = made
    compare(si.load(folder / f"{name}.pkl"), np.load(folder / f"{name}.npz"), fused)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("reader", REPOS)
def test_files_written_here_compute_the_same_there(made, reader, name, tmp_path):
    _, folder = made
    net = si.load(folder / f"{name}.pkl")
    extra = {"de": {"weight": torch.randn(3, 4), "steps": torch.tensor(7)}}
    si.save(net, tmp_path / "ours.pkl", extra=extra)
    official(reader, "open", tmp_path / "ours.pkl", tmp_path / "theirs.npz")
    there, expected = np.load(tmp_path / "theirs.npz"), np.load(folder / f"{name}.npz")
    for key in expected:
        assert_close(key, there[key], expected[key], 1e-5)
    again = si.load(tmp_path / "ours.pkl")
    for key in ("G", "D", "G_ema"):
        if net[key] is not None:
            ours, theirs = net[key].state_dict(), again[key].state_dict()
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert torch.equal(again.extra["de"]["weight"], extra["de"]["weight"]) and again.extra["de"]["steps"] == 7
    assert again.training_set_kwargs == net.training_set_kwargs
