"""Runs NVIDIA's code, from a checkout of stylegan2-ada-pytorch or stylegan3, in a process of its own.

    python official.py make REPO CONFIGS.json OUTDIR      networks as official pickles, with what they compute
    python official.py open REPO FILE.pkl OUT.npz         what official code computes from a file
    python official.py project REPO FILE.pkl FEATURES.pt TARGET.png STEPS SEED OUT.npz
    python official.py generate REPO FILE.pkl CODE.npz OUTDIR
    python official.py tune REPO FILE.pkl CODE.npz TARGET.npy STEPS OUT.npy
    python official.py golden REPO CATS32.pkl             golden/networks.npz and golden/projection.npz
    python official.py align FFHQ OUT.npz                 faces cut out of a picture, by a checkout of ffhq-dataset

CATS32.pkl is the shipped network, written anew by this package: the shipped file has a placeholder for source text,
with which official code cannot open it.

`test_official.py` compares this package with it, `test_networks.py` and `test_projectors.py` with the golden files,
which were made by ``golden`` from stylegan2-ada-pytorch; `test_alignment.py` has golden/alignment.npz, made by ``align``.
Nothing of the checkouts is part of this project.
"""

import contextlib
import importlib.util
import json
import pickle
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import packaging.version
import torch

HERE = Path(__file__).parent
CONFIGS = json.loads((HERE / "official_configs.json").read_text())
PRETRAINED = HERE.parent / "pretrained"


def fill(module: torch.nn.Module, seed: int) -> None:
    """Give every parameter and buffer but the filters values that depend on its name's rank alone.

    Official classes and ours have the same names, so both get the same weights. Fresh networks have zero biases and
    noise strengths, which would hide mistakes.
    """
    gen = torch.Generator().manual_seed(seed)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name in sorted(tensors):
            if name.endswith("resample_filter"):
                continue
            owner = module.get_submodule(name.rpartition(".")[0])
            value = torch.randn(tensors[name].shape, generator=gen)
            if name.endswith("affine.bias"):
                value = 1 + 0.3 * value
            elif name.endswith(("bias", "noise_strength")):
                value = 0.3 * value
            elif hasattr(owner, "bias_gain"):
                value = value / owner.bias_gain
            tensors[name].copy_(value)


def outputs(G, D=None, seed: int = 0) -> dict[str, np.ndarray]:
    """Pictures, w, logits, and gradients of a loss with respect to w and to the picture, for fixed inputs."""
    rng = np.random.RandomState(seed)
    n = 4
    z = torch.from_numpy(rng.randn(n, G.z_dim))
    c = torch.eye(max(G.c_dim, 1))[rng.randint(max(G.c_dim, 1), size=n)][:, : G.c_dim]
    weights = torch.from_numpy(rng.randn(n, G.img_channels, G.img_resolution, G.img_resolution).astype(np.float32))
    ws = G.mapping(z, c)
    leaf = ws.detach().clone().requires_grad_(True)
    image = G.synthesis(leaf, noise_mode="const", force_fp32=True)
    (image * weights).sum().backward()
    result = {"ws": ws, "image": image, "gradient": leaf.grad}
    result["image without noise"] = G.synthesis(ws, noise_mode="none", force_fp32=True)
    if hasattr(G.mapping, "w_avg"):
        result["truncated ws"] = G.mapping(z, c, truncation_psi=0.7, truncation_cutoff=2)
    if D is not None:
        x = weights.clamp(-1, 1).requires_grad_(True)
        logits = D(x, c, force_fp32=True)
        logits.sum().backward()
        result |= {"logits": logits, "gradient of logits": x.grad}
    return {k: v.detach().numpy() for k, v in result.items()}


def networks(config, generator_class, discriminator_class):
    """Generator and discriminator (or None) of a configuration, with weights of `fill`."""
    G = generator_class(*config.get("args", ()), **config["G"]).eval().requires_grad_(False)
    fill(G, 2)
    D = None
    if "D" in config:
        D = discriminator_class(**config["D"]).eval().requires_grad_(False)
        fill(D, 3)
    for path, value in config.get("edit", {}).items():
        owner, _, name = path.rpartition(".")
        setattr(G.get_submodule(owner), name, value)
    return G, D


def _official_networks(config):
    try:
        from training import networks_stylegan2 as module
    except ImportError:
        from training import networks as module
    return networks(config, module.Generator, module.Discriminator)


def make(configs, outdir):
    for name, config in json.loads(Path(configs).read_text()).items():
        G, D = _official_networks(config)
        data = dict(training_set_kwargs={"path": "set.zip", "xflip": True}, G=G, D=D, G_ema=G, augment_pipe=None)
        file = Path(outdir, f"{name}.pkl")
        if config.get("torch_save"):
            torch.save(G, file)
        else:
            file.write_bytes(pickle.dumps(data, protocol=config.get("protocol", 4)))
        np.savez(file.with_suffix(".npz"), **outputs(G, None if config.get("torch_save") else D))


def open_(file, out):
    import legacy

    with open(file, "rb") as f:
        data = legacy.load_network_pkl(f)
    D = data["D"]
    np.savez(out, **outputs(data["G_ema"], D if hasattr(D, "b4") else None))


def project(file, features, target, steps, seed, out):
    import dnnlib
    import legacy
    import PIL.Image
    import projector

    with open(file, "rb") as f:
        G = legacy.load_network_pkl(f)["G_ema"].requires_grad_(False)
    dnnlib.util.open_url = lambda url: contextlib.nullcontext(open(features, "rb"))
    # The distance that is printed has two decimals; this sees the full one, the square of the features' difference.
    distance = []
    original = torch.Tensor.square

    def square(self):
        result = original(self)
        if result.ndim == 2 and result.requires_grad:
            distance.append(float(result.detach().sum()))
        return result

    torch.Tensor.square = square
    picture = PIL.Image.open(target).convert("RGB")
    w, h = picture.size
    s = min(w, h)
    picture = picture.crop(((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2)).resize(
        (G.img_resolution, G.img_resolution), PIL.Image.LANCZOS
    )
    pixels = torch.from_numpy(np.array(picture).transpose(2, 0, 1))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    w = projector.project(G, pixels, num_steps=int(steps), device=torch.device("cpu"))
    torch.Tensor.square = original
    np.savez(out, w=w[:, 0].numpy(), distance=np.array(distance[-int(steps) :]))


def generate(file, codes, outdir):
    """generate.py, on a CPU."""
    import generate

    device = torch.device
    generate.torch = types.SimpleNamespace(**{**vars(torch), "device": lambda name: device("cpu")})
    generate.generate_images(["--network", file, "--projected-w", codes, "--outdir", outdir], standalone_mode=False)


def tune(file, codes, target, steps, out):
    """The loop of PTI's single_id_coach.py around the official network, with its mean squared error alone."""
    import legacy

    with open(file, "rb") as f:
        G = legacy.load_network_pkl(f)["G_ema"].requires_grad_(True)
    w, target = torch.from_numpy(np.load(codes)["w"]), torch.from_numpy(np.load(target))
    optimizer = torch.optim.Adam(G.parameters(), lr=3e-4)
    for _ in range(int(steps)):
        loss = torch.nn.functional.mse_loss(G.synthesis(w, noise_mode="const", force_fp32=True), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        np.save(out, G.synthesis(w, noise_mode="const", force_fp32=True).numpy())


def golden(cats32):
    found = {}
    for name, config in CONFIGS.items():
        for key, value in outputs(*_official_networks(config)).items():
            found[f"{name}/{key}"] = value[:2]
    np.savez(HERE / "golden" / "networks.npz", **found)
    features, picture = HERE / "golden" / "stub-features.pt", PRETRAINED / "chelsea-face.png"
    project(cats32, features, picture, 50, 303, HERE / "golden" / "projection.npz")


# Pictures and landmarks for ``align``: the size of the picture, where the middle of the eyes is, the distance of the eyes, by
# how many degrees the face is turned, and the side of the result. Some squares reach beyond the picture, some are shrunk.
ALIGNMENTS = {
    "inside": ((180, 160), (90, 70), 22, 10, 32),
    "shrunk": ((300, 280), (150, 120), 40, -35, 24),
    "border": ((120, 90), (100, 20), 20, 25, 32),
    "shrunk at the border": ((200, 220), (30, 60), 41, 170, 20),
    "around all": ((40, 60), (20, 25), 30, 0, 32),
}


def photograph(width, height):
    """A picture with waves of many lengths and edges: (height, width, 3) uint8."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [
        np.sin(x / 3 + y / 17) + np.sin(y / 5) + (x > y),
        np.cos(x / 9) * np.sin(y / 4) + (x + y > 150),
        np.sin(x * y / 400),
    ]
    return np.stack([np.round(127.5 + 50 * wave).clip(0, 255) for wave in waves], axis=2).astype(np.uint8)


def landmarks(middle, distance, degrees):
    """68 landmarks of an upright face, turned; those that the square does not depend on are 0. (68, 2) float64."""
    points = np.zeros((68, 2))
    circle = np.array([[np.cos(a), np.sin(a)] for a in np.arange(6) * np.pi / 3])
    points[36:42] = [-0.5, 0] + 0.1 * circle
    points[42:48] = [0.5, 0.02] + 0.1 * circle
    points[48], points[54] = [-0.4, 1.1], [0.38, 1.13]
    a = np.radians(degrees)
    return points @ [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] * distance + middle


def align(out):
    import download_ffhq
    import PIL.Image

    PIL.Image.ANTIALIAS = PIL.Image.LANCZOS  # its name until Pillow 10
    PIL.Image.QUAD = PIL.Image.Transform.QUAD
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("LICENSE.txt").touch()
        for name, (size, middle, distance, degrees, resolution) in ALIGNMENTS.items():
            PIL.Image.fromarray(photograph(*size)).save("photograph.png")
            entry = {"face_landmarks": landmarks(middle, distance, degrees).tolist(), "file_path": "photograph.png"}
            download_ffhq.recreate_aligned_images({"0": {"in_the_wild": entry}}, "", "out", output_size=resolution)
            found[name] = np.asarray(PIL.Image.open("out/00000/00000.png"))
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    command, repo, *rest = sys.argv[1:]
    sys.path.insert(0, str(Path(repo).absolute()))
    if importlib.util.find_spec("pkg_resources") is None:  # stylegan3 imports it; setuptools no longer has it
        sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=packaging.version.parse)
    commands = {"make": make, "open": open_, "project": project, "generate": generate, "tune": tune, "golden": golden}
    {**commands, "align": align}[command](*rest)
