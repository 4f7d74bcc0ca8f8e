"""Equality with NVIDIA's code, where a checkout of it is given. It runs in processes of its own (official.py)."""
# Takes at most 5 CPU seconds.

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si

from official import CONFIGS, HERE, PRETRAINED, outputs
from support import assert_close, assert_same_outputs, load_npz

REPOS = {
    "ada": ("STYLEGAN2_ADA_REPO", "stylegan2-ada-pytorch"),
    "sg3": ("STYLEGAN3_REPO", "stylegan3"),
}


def checkout(repo):
    variable, name = REPOS[repo]
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to a checkout of NVlabs/{name} to compare with it")
    return os.environ[variable]


def official(repo, *args):
    path = checkout(repo)
    command, *rest = args
    result = subprocess.run(
        [sys.executable, HERE / "official.py", command, path, *map(str, rest)],
        capture_output=True,
        text=True,
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
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_official_files_compute_the_same_here(made, name):
    net = si.load(made / f"{name}.pkl")
    assert_same_outputs(outputs(net.G, net.D), load_npz(made / f"{name}.npz"))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("reader", REPOS)
def test_files_written_here_compute_the_same_there(made, reader, name, tmp_path):
    net = si.load(made / f"{name}.pkl")
    si.save(net, tmp_path / "ours.pkl", extra={"de": {"weight": torch.randn(3, 4)}})
    official(reader, "open", tmp_path / "ours.pkl", tmp_path / "theirs.npz")
    assert_same_outputs(load_npz(tmp_path / "theirs.npz"), load_npz(made / f"{name}.npz"))


@pytest.mark.parametrize("seed, steps", [(0, 50), (303, 50), (1, 400)])
def test_the_official_projector_takes_the_same_way(seed, steps, tmp_path):
    """To the bit where both were measured; the tolerance is for machines whose libraries sum in another order."""
    picture, features = PRETRAINED / "chelsea-face.png", HERE / "golden" / "stub-features.pt"
    si.save(si.load("cats32"), tmp_path / "cats32.pkl")
    official("ada", "project", tmp_path / "cats32.pkl", features, picture, steps, seed, tmp_path / "theirs.npz")
    theirs = load_npz(tmp_path / "theirs.npz")
    ours = si.project(
        si.load("cats32").G,
        picture,
        "w",
        loss="lpips-vgg",
        vgg16=features,
        run_torchscript=True,
        steps=steps,
        seed=seed,
        keep_steps=True,
    )
    np.testing.assert_allclose(ours.distance[:50], theirs["distance"][:50], rtol=2e-3)
    assert_close(
        "w",
        torch.cat([code.tensors["w"] for code in ours.steps]).numpy()[:50] - theirs["w"][0],
        theirs["w"][:50] - theirs["w"][0],
        0.02,
    )
    assert float(ours.distance[-1]) == pytest.approx(theirs["distance"][-1], rel=0.01)


def test_a_tuned_network_is_that_of_the_official_loop_and_official_generate_draws_its_picture(tmp_path):
    checkout("ada")
    si.save(si.load("cats32"), tmp_path / "cats32.pkl")
    result = si.project(
        si.load(tmp_path / "cats32.pkl"), PRETRAINED / "chelsea-face.png", "fast-w", steps=5, loss="mse", tune=10
    )
    result.save(tmp_path)
    np.save(tmp_path / "target.npy", result.target[None].numpy() / np.float32(127.5) - 1)
    code = tmp_path / "projected_w.npz"
    official("ada", "tune", tmp_path / "cats32.pkl", code, tmp_path / "target.npy", 10, tmp_path / "theirs.npy")
    with torch.no_grad():
        ours = si.load(tmp_path / "tuned.pkl").G.synthesis(torch.from_numpy(load_npz(code)["w"]), noise_mode="const")
    assert_close("picture", ours.numpy(), np.load(tmp_path / "theirs.npy"), 1e-4)
    official("ada", "generate", tmp_path / "tuned.pkl", code, tmp_path / "drawn")
    drawn = np.array(PIL.Image.open(tmp_path / "drawn" / "proj00.png")).astype(int)
    assert abs(drawn - np.array(PIL.Image.open(tmp_path / "proj.png"))).max() <= 1
