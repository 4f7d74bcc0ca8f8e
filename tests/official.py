"""Runs NVIDIA's code, from a checkout of stylegan2-ada-pytorch or stylegan3, in a process of its own.

    python official.py make REPO CONFIGS.json OUTDIR      networks as official pickles, with what they compute
    python official.py open REPO FILE.pkl OUT.npz         what official code computes from a file
    python official.py project REPO FILE.pkl FEATURES.pt TARGET.npy STEPS SEED OUT.npz

`test_official.py` compares this package with it. Nothing of the checkout is part of this project.
"""

import importlib.util
import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import packaging.version
import torch


def outputs(G, D, seed=0):
    """Pictures, w, logits and the gradient of a loss with respect to w, for fixed inputs."""
    rng = np.random.RandomState(seed)
    n = 4
    z = rng.randn(n, G.z_dim)
    c = np.eye(max(G.c_dim, 1), dtype=np.float32)[rng.randint(max(G.c_dim, 1), size=n)][:, : G.c_dim]
    weights = rng.randn(n, G.img_channels, G.img_resolution, G.img_resolution).astype(np.float32)
    zt, ct = torch.from_numpy(z), torch.from_numpy(c)
    ws = G.mapping(zt, ct)
    truncated = G.mapping(zt, ct, truncation_psi=0.7, truncation_cutoff=2) if hasattr(G.mapping, "w_avg") else ws
    leaf = ws.detach().clone().requires_grad_(True)
    image = G.synthesis(leaf, noise_mode="const", force_fp32=True)
    (image * torch.from_numpy(weights)).sum().backward()
    result = dict(z=z, c=c, ws=ws, truncated=truncated, image=image, grad=leaf.grad)
    result["image_none"] = G.synthesis(ws, noise_mode="none", force_fp32=True)
    if D is not None:
        x = image.detach().clone().requires_grad_(True)
        logits = D(x, ct, force_fp32=True)
        logits.sum().backward()
        result |= dict(logits=logits, logits_grad=x.grad)
    return {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in result.items()}


def shake(module, seed):
    """Random values everywhere: fresh networks have zero biases and noise strengths, which would hide mistakes."""
    gen = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=gen)
    for name, b in module.named_buffers():
        if name.endswith("w_avg"):
            b += torch.randn(b.shape, generator=gen)


def make(configs, outdir):
    try:
        from training import networks_stylegan2 as networks
    except ImportError:
        from training import networks
    for name, config in json.loads(Path(configs).read_text()).items():
        torch.manual_seed(1)
        G = networks.Generator(*config.get("args", ()), **config["G"]).eval().requires_grad_(False)
        shake(G, 2)
        D = None
        if "D" in config:
            D = networks.Discriminator(**config["D"]).eval().requires_grad_(False)
            shake(D, 3)
        data = dict(training_set_kwargs={"path": "set.zip", "xflip": True}, G=G, D=D, G_ema=G, augment_pipe=None)
        for edit in config.get("edit", ()):
            exec(edit, {"G": G, "D": D})
        if config.get("torch_save"):
            torch.save(G, f"{outdir}/{name}.pkl")
        else:
            Path(f"{outdir}/{name}.pkl").write_bytes(pickle.dumps(data, protocol=config.get("protocol", 4)))
        np.savez(f"{outdir}/{name}.npz", **outputs(G, None if config.get("torch_save") else D))


def open_(file, out):
    import legacy

    with open(file, "rb") as f:
        data = legacy.load_network_pkl(f)
    D = data["D"]
    np.savez(out, **outputs(data["G_ema"], D if hasattr(D, "b4") else None))


def project(file, features, target, steps, seed, out):
    import contextlib

    import dnnlib
    import legacy
    import projector

    with open(file, "rb") as f:
        G = legacy.load_network_pkl(f)["G_ema"].requires_grad_(False)
    dnnlib.util.open_url = lambda url: contextlib.nullcontext(open(features, "rb"))
    # The distance that is printed has two decimals; this sees the full one, the square of the features' difference.
    square_sum = []
    original = torch.Tensor.square

    def square(self):
        result = original(self)
        if self.ndim == 2 and self.requires_grad:
            square_sum.append(float(result.detach().sum()))
        return result

    torch.Tensor.square = square
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    w = projector.project(G, torch.from_numpy(np.load(target)), num_steps=int(steps), device=torch.device("cpu"))
    np.savez(out, projected_w=w[:, 0].numpy(), distance=np.array(square_sum))


if __name__ == "__main__":
    command, repo, *rest = sys.argv[1:]
    sys.path.insert(0, repo)
    if importlib.util.find_spec("pkg_resources") is None:  # stylegan3 imports it; setuptools no longer has it
        sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=packaging.version.parse)
    torch.set_num_threads(2)
    {"make": make, "open": open_, "project": project}[command](*rest)
