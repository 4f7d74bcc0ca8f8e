"""StyleGAN2 in the state dicts of rosinality/stylegan2-pytorch, read and written.

Both projects compute the same from the same numbers: the equalised learning rates, the gain of sqrt(2) after each leaky
ReLU, the bias of the styles that begins at one, and the turned kernel of the convolution that doubles the resolution
are alike. A tensor only has another name there, and more axes of size one; and a filter that doubles the resolution
contains a gain of 4. There the weights of modulated convolutions are also scaled by 1 / sqrt(fan-in) before
demodulation. That cancels except for the 1e-8 under the root, and is left out here, as in NVIDIA's own conversion.

A file holds {"g_ema": state dict, "latent_avg": (w_dim,)}. It may also hold "g", the weights without averaging, and
"d", the discriminator.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ...errors import NetworkFileError
from ...files.tensors import TensorRecord, tables, unwrapped
from ...files.writing import atomic
from ...networks.discriminators import Discriminator
from ...networks.layers import Conv2dLayer, FullyConnectedLayer, MappingNetwork, widest_dtype
from ...networks.stylegan2 import Generator, SynthesisLayer, ToRGBLayer
from ...ops import ACTIVATIONS, normalize_2nd_moment, setup_filter
from ..assemble import Budget, Source, assemble, constructing
from ..checks import MAX_LAYERS, MAX_RESOLUTION, MAX_SIZE, Assumptions, not_zero

MAX_TAPS = 31
MAX_ROWS = 64  # the most rows of latent_avg

ASSUMED: Assumptions = {"lr_mlp": (0.01, not_zero)}
"""A value that a file does not state: the mapping network's learning rate, a factor of its weights and biases."""

LATENT_AVG = "latent_avg"
GENERATOR_MARKS = {"input.input", "conv1.conv.weight", "to_rgb1.bias"}
DISCRIMINATOR_MARKS = {"convs.0.0.weight", "final_conv.0.weight", "final_linear.1.weight"}

MISFIT = "it is of shape {found}; the other tensors ask for {wanted}"
UNKNOWN = "it is not a part of rosinality's StyleGAN2; is this another network?"

# Constants of their model.py.
STANDARD_FILTER = (1, 3, 3, 1)
LR_MLP = 0.01
WIDTH = 512  # at 4x4 to 32x32
LARGEST = 1024
SEEDS = 4  # pictures that are made to see if a layer's values reach its clamp
W_AVG_SAMPLES = 10_000


class Entry(NamedTuple):
    """One tensor, which is in their state dict in another shape and times a factor.

    Attributes:
        name: the name of the tensor in our module.
        key: its name in their state dict.
        shape: takes our shape and returns theirs.
        factor: their numbers are ours times this factor.
    """

    name: str
    key: str
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple
    factor: float = 1


def _leading(count: int) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    return lambda shape: (1,) * count + tuple(shape)


def _generator_entries(num_layers: int, resolutions: list[int]) -> Iterator[Entry]:
    def pair(name: str, key: str) -> Iterator[Entry]:
        yield Entry(f"{name}.weight", f"{key}.weight")
        yield Entry(f"{name}.bias", f"{key}.bias")

    def layer(name: str, key: str, noise: int) -> Iterator[Entry]:
        yield Entry(f"{name}.weight", f"{key}.conv.weight", _leading(1))
        yield from pair(f"{name}.affine", f"{key}.conv.modulation")
        yield Entry(f"{name}.noise_strength", f"{key}.noise.weight", _leading(1))
        yield Entry(f"{name}.noise_const", f"noises.noise_{noise}", _leading(2))
        yield Entry(f"{name}.bias", f"{key}.activate.bias")

    for i in range(num_layers):
        yield from pair(f"mapping.fc{i}", f"style.{i + 1}")
    yield Entry("synthesis.b4.const", "input.input", _leading(1))
    for j, res in enumerate(resolutions):
        block, torgb = f"synthesis.b{res}", "to_rgb1" if j == 0 else f"to_rgbs.{j - 1}"
        if j > 0:
            yield from layer(f"{block}.conv0", f"convs.{2 * j - 2}", 2 * j - 1)
            yield Entry(f"{block}.conv0.resample_filter", f"convs.{2 * j - 2}.conv.blur.kernel", factor=4)
            yield Entry(f"{block}.resample_filter", f"{torgb}.upsample.kernel", factor=4)
        yield from layer(f"{block}.conv1", "conv1" if j == 0 else f"convs.{2 * j - 1}", 2 * j)
        yield Entry(f"{block}.torgb.weight", f"{torgb}.conv.weight", _leading(1))
        yield from pair(f"{block}.torgb.affine", f"{torgb}.conv.modulation")
        yield Entry(f"{block}.torgb.bias", f"{torgb}.bias", lambda shape: (1, *shape, 1, 1))


def _discriminator_entries(resolutions: list[int]) -> Iterator[Entry]:
    """The tensors of a discriminator with blocks of these resolutions, from that of the picture down to 8."""
    yield Entry(f"b{resolutions[0]}.fromrgb.weight", "convs.0.0.weight")
    yield Entry(f"b{resolutions[0]}.fromrgb.bias", "convs.0.1.bias")
    for i, res in enumerate(resolutions, 1):
        yield Entry(f"b{res}.conv0.weight", f"convs.{i}.conv1.0.weight")
        yield Entry(f"b{res}.conv0.bias", f"convs.{i}.conv1.1.bias")
        for name, key in (("conv1", "conv2"), ("skip", "skip")):
            yield Entry(f"b{res}.{name}.resample_filter", f"convs.{i}.{key}.0.kernel")
            yield Entry(f"b{res}.{name}.weight", f"convs.{i}.{key}.1.weight")
        yield Entry(f"b{res}.conv1.bias", f"convs.{i}.conv2.2.bias")
    for name, key in (("conv.weight", "final_conv.0.weight"), ("conv.bias", "final_conv.1.bias")):
        yield Entry(f"b4.{name}", key)
    for name, key in (("fc", "final_linear.0"), ("out", "final_linear.1")):
        yield Entry(f"b4.{name}.weight", f"{key}.weight")
        yield Entry(f"b4.{name}.bias", f"{key}.bias")


# Reading


def find(root: Any) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The networks of this kind in a file: role to the place and the tensors by name. Empty if there is no generator.

    "G_ema" is the generator under a key with "ema" in it, or else the first. "latent_avg" is added to the tensors of a
    generator if it lies beside the state dict, in it, or at the top of the file.
    """
    generators: dict[str, dict[str, TensorRecord]] = {}
    discriminators: dict[str, dict[str, TensorRecord]] = {}
    for place, tensors, parent in tables(root):
        tensors = unwrapped(tensors)
        if GENERATOR_MARKS <= tensors.keys():
            for owner in (root, parent, tensors):
                mean = owner.get(LATENT_AVG) if isinstance(owner, dict) else None
                if isinstance(mean, TensorRecord):
                    tensors = {**tensors, LATENT_AVG: mean}
            generators[place] = tensors
        elif DISCRIMINATOR_MARKS <= tensors.keys():
            discriminators[place] = tensors
    if not generators:
        return {}
    ema = min(generators, key=lambda place: "ema" not in _last(place))
    networks = {"G_ema": (ema, generators[ema])}
    for place in generators:
        if place != ema and _last(place) in ("g", "generator"):
            networks.setdefault("G", (place, generators[place]))
    for place in sorted(discriminators, key=lambda place: _last(place) not in ("d", "discriminator")):
        networks.setdefault("D", (place, discriminators[place]))
    return networks


def _last(place: str) -> str:
    return place.rpartition(".")[2].lower()


def build(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> Generator | Discriminator:
    """The network of a state dict, in eval mode, without gradients, float32; see `build_generator`."""
    if DISCRIMINATOR_MARKS <= tensors.keys():
        return build_discriminator(place, tensors, file, budget)
    return build_generator(place, tensors, file, budget, assumed)


def build_generator(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> Generator:
    """The generator of a state dict, in eval mode, without gradients, float32.

    Args:
        place: where in the file the state dict is.
        tensors: the tensors by name, with "latent_avg" (w_dim,) or (rows, w_dim) if the file has it. The rows are one w
            repeated for every layer; where they differ, their mean is taken.
        file: the name of the file, for errors.
        budget: the memory budget.
        assumed: a value for each name of `ASSUMED`.

    Without "latent_avg" the network's ``w_avg`` is the mean w of 10,000 latents of ``RandomState(123)``. The oldest
    files have no noise maps; they are then drawn from a fixed seed.

    Raises:
        NetworkFileError: tensors are missing, unknown, of other shapes, or of another kind than StyleGAN2's.
    """
    own = {key: record for key, record in tensors.items() if key != LATENT_AVG}
    reader = _Reader(own, file, place)
    num_layers = reader.count("style.{}.weight", 1, MAX_LAYERS)
    resolutions = [4 * 2**j for j in range(reader.count("to_rgbs.{}.bias", 0, MAX_RESOLUTION.bit_length() - 3) + 1)]
    if num_layers == 0:
        raise NetworkFileError(
            file, place, "it has no style.1.weight; expected the layers of a mapping network, from style.1 on"
        )
    z_dim = reader.shape("style.1.weight", 2)[1]
    w_dim, layer_features = reader.shape(f"style.{num_layers}.weight", 2)
    widths = {4: reader.shape("conv1.conv.weight", 5)[1]}
    for j, res in enumerate(resolutions[1:]):
        widths[res] = reader.shape(f"convs.{2 * j + 1}.conv.weight", 5)[1]
    synthesis_kwargs: dict[str, Any] = {**_channel_rule(widths, file, place)}
    taps = reader.taps("convs.0.conv.blur.kernel", 4) if len(resolutions) > 1 else None
    if taps is not None:
        synthesis_kwargs["resample_filter"] = taps
    # Their ToRGB has a filter of its own, which is the usual one whatever blur_kernel the convolutions have.
    img_taps = reader.taps("to_rgbs.0.upsample.kernel", 4) if len(resolutions) > 1 else None
    if img_taps != taps:
        synthesis_kwargs["img_filter"] = list(STANDARD_FILTER) if img_taps is None else img_taps
    mapping_kwargs = {"num_layers": num_layers, "lr_multiplier": assumed["lr_mlp"]}
    if num_layers > 1 and layer_features != w_dim:
        mapping_kwargs["layer_features"] = layer_features
    with constructing(file, place, "its shapes"):
        network = Generator(
            z_dim=z_dim,
            c_dim=0,
            w_dim=w_dim,
            img_resolution=resolutions[-1],
            img_channels=reader.shape("to_rgb1.conv.weight", 5)[1],
            mapping_kwargs=mapping_kwargs,
            synthesis_kwargs=synthesis_kwargs,
        )
    expected = {name: value.shape for name, value in network.state_dict().items()}
    entries = list(_generator_entries(num_layers, resolutions))
    drawn: dict[str, Source] = {}
    if not any(key.startswith("noises.") for key in tensors):
        random = torch.Generator().manual_seed(0)
        for entry in [entry for entry in entries if entry.key.startswith("noises.")]:
            drawn[entry.name] = Source({}, partial(torch.randn, expected[entry.name], generator=random))
            entries.remove(entry)
    sources = {**_unused_filters(network, taps), **reader.sources(network, entries), **drawn}
    latent_avg = tensors.get(LATENT_AVG)
    if latent_avg is None:
        sources["mapping.w_avg"] = Source({}, lambda: torch.zeros([w_dim]))
    else:
        shape = _check_latent_avg(latent_avg, w_dim, file)
        sources["mapping.w_avg"] = Source({LATENT_AVG: (latent_avg, shape)}, partial(_one_row, w_dim=w_dim))
    assemble(network, sources, file, place, budget, names=own, misfit=MISFIT, unknown=UNKNOWN)
    if latent_avg is None:
        network.mapping.w_avg.copy_(_mean_w(network.mapping))
    return network


def _one_row(values: torch.Tensor, w_dim: int) -> torch.Tensor:
    """The one w of latent_avg, or the mean of its rows where they differ."""
    rows = values.reshape(-1, w_dim)
    return (rows[0] if bool((rows == rows[0]).all()) else rows.mean(dim=0)).clone()


def _mean_w(mapping: MappingNetwork) -> torch.Tensor:
    random, batch = np.random.RandomState(123), 250
    total = torch.zeros([], device=mapping.w_avg.device)
    for _ in range(W_AVG_SAMPLES // batch):
        z = torch.from_numpy(random.randn(batch, mapping.z_dim).astype(np.float32))
        x = normalize_2nd_moment(z.to(mapping.w_avg.device))
        for i in range(mapping.num_layers):
            x = getattr(mapping, f"fc{i}")(x)
        total = total + x.sum(dim=0, dtype=widest_dtype(x.device))
    return (total / W_AVG_SAMPLES).to(torch.float32)


def build_discriminator(place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget) -> Discriminator:
    """The discriminator of a state dict, in eval mode, without gradients, float32.

    It compares pictures in groups of 4 and gives the result in one channel. A file does not say so; model.py always
    does.

    Raises:
        NetworkFileError: tensors are missing, unknown, of other shapes, or of another kind than StyleGAN2's.
    """
    reader = _Reader(tensors, file, place)
    count = reader.count("convs.{}.conv1.0.weight", 1, MAX_RESOLUTION.bit_length() - 3)
    resolutions = [4 * 2**j for j in range(count, 0, -1)]
    if not resolutions:
        raise NetworkFileError(file, place, "it has no convs.1.conv1; expected the blocks of a discriminator")
    first = reader.shape("convs.0.0.weight", 4)
    widths = {resolutions[0]: first[0]}
    for i, res in enumerate(resolutions, 1):
        widths[res // 2] = reader.shape(f"convs.{i}.conv2.1.weight", 4)[0]
    taps = reader.taps("convs.1.conv2.0.kernel", 1)
    with constructing(file, place, "its shapes"):
        network = Discriminator(
            c_dim=0,
            img_resolution=resolutions[0],
            img_channels=first[1],
            block_kwargs={} if taps is None else {"resample_filter": taps},
            **_channel_rule(widths, file, place),
        )
    sources = reader.sources(network, list(_discriminator_entries(resolutions)))
    sources = {**_unused_filters(network, taps), **sources}
    return assemble(network, sources, file, place, budget, names=tensors, misfit=MISFIT, unknown=UNKNOWN)


def live_settings(G: torch.nn.Module) -> dict[str, Any]:
    """The values for names of `ASSUMED` that a generator in memory states."""
    return {"lr_mlp": G.get_submodule("style.1").lr_mul}


def live_pictures(G: torch.nn.Module, assumed: Any, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The pictures of a generator of model.py in memory."""
    return G([z.to(next(G.parameters()).dtype)], randomize_noise=False)[0]


def live_scores(D: torch.nn.Module, assumed: Any, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The scores of a discriminator of model.py in memory."""
    return D(img.to(next(D.parameters()).dtype))


class _Reader:
    """The tensors of one state dict. Errors say which tensor is wrong, and where it is."""

    def __init__(self, tensors: Mapping[str, TensorRecord], file: object, place: str):
        self.tensors, self.file, self.place = tensors, file, place

    def refuse(self, key: str, reason: str) -> NetworkFileError:
        return NetworkFileError(self.file, f"{self.place}.{key}" if self.place else key, reason)

    def count(self, pattern: str, start: int, most: int) -> int:
        """How many tensors there are whose names have the numbers from ``start`` on, without a gap."""
        n = 0
        while pattern.format(start + n) in self.tensors:
            n += 1
            if n > most:
                raise self.refuse(pattern.format("N"), f"there are more than {most} of them; networks have far fewer")
        return n

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        record = self.tensors.get(key)
        if record is None:
            raise self.refuse(key, "it is missing; expected a state dict of rosinality's StyleGAN2")
        shape = tuple(record.shape)
        if len(shape) != dimensions or not all(1 <= n <= MAX_SIZE for n in shape):
            raise self.refuse(key, f"its shape is {shape}; expected {dimensions} sizes from 1 to {MAX_SIZE}")
        return shape

    def taps(self, key: str, factor: float) -> list[list[float]] | None:
        """The filter in a tensor (T, T), which holds it times a factor; None if it is the standard filter."""
        shape = self.shape(key, 2)
        if shape[0] != shape[1] or shape[0] > MAX_TAPS:
            raise self.refuse(key, f"its shape is {shape}; expected a square filter of at most {MAX_TAPS} taps a side")
        kernel = self.tensors[key].to_float32() / factor
        if not bool(torch.isfinite(kernel).all()) or float(kernel.sum()) == 0:
            raise self.refuse(key, "its sum is zero or no number; expected a filter")
        standard = setup_filter(STANDARD_FILTER)
        return None if kernel.shape == standard.shape and torch.equal(kernel, standard) else kernel.tolist()

    def sources(self, network: torch.nn.Module, entries: list[Entry]) -> dict[str, Source]:
        """The sources of our tensors, by the table of names and shapes."""
        ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}

        def source(entry: Entry) -> Source:
            def make(value: torch.Tensor) -> torch.Tensor:
                value = value.reshape(ours[entry.name])
                return value if entry.factor == 1 else value.div_(entry.factor)

            inputs = {entry.key: (self.tensors.get(entry.key), entry.shape(ours[entry.name]))}
            return Source(inputs, make, is_view=entry.factor == 1)

        return {entry.name: source(entry) for entry in entries}


def _channel_rule(widths: Mapping[int, int], file: object, place: str) -> dict[str, Any]:
    """channel_base and channel_max that give the widths, which are min(channel_base // r, channel_max) at resolution r."""
    most = max(widths.values())
    base = max(width * res for res, width in widths.items())
    if any(min(base // res, most) != width for res, width in widths.items()):
        channels = ", ".join(f"{width} at {res}" for res, width in sorted(widths.items()))
        raise NetworkFileError(
            file,
            place,
            f"its channels ({channels}) follow no rule min(base / resolution, most), which StyleGAN2 here needs",
        )
    return {"channel_base": base, "channel_max": most}


def _check_latent_avg(record: TensorRecord, w_dim: int, file: object) -> tuple[int, ...]:
    """The shape of "latent_avg", which is one w or some rows of it."""
    shape = tuple(record.shape)
    if not shape or shape[-1] != w_dim or not 1 <= record.numel // w_dim <= MAX_ROWS:
        raise NetworkFileError(file, LATENT_AVG, f"its shape is {shape}; expected ({w_dim},) or (rows, {w_dim})")
    return shape


def _unused_filters(network: torch.nn.Module, taps: list[list[float]] | None) -> dict[str, Source]:
    """The filters that our layers keep, as their constructors make them; theirs has only those that are used."""
    sources: dict[str, Source] = {}
    for name in network.state_dict():
        if name.endswith("resample_filter"):
            plain = isinstance(network.get_submodule(name.rpartition(".")[0]), Conv2dLayer)
            shape = network.get_buffer(name).shape
            standard = plain or taps is None or tuple(shape) != (len(taps), len(taps))
            sources[name] = Source({}, partial(setup_filter, STANDARD_FILTER if standard else taps))
    return sources


# Writing


def arguments(G: Generator) -> dict[str, int]:
    """The arguments of model.py's Generator for the state dict of a network that `state_dict` accepts."""
    conv: Any = G.synthesis.get_submodule("b64.conv1") if G.img_resolution >= 64 else None
    width = 512 if conv is None else conv.out_channels
    return {
        "size": G.img_resolution,
        "style_dim": G.w_dim,
        "n_mlp": G.mapping.num_layers,
        "channel_multiplier": width // 256,
    }


def state_dict(G: Generator) -> dict[str, torch.Tensor]:
    """The state dict with which rosinality's ``model.Generator(**arguments(G))`` makes the same pictures.

    Where the learning rate of the mapping differs from theirs, it is multiplied into the weights. Layers without noise
    get noise of strength zero. ``mapping.w_avg`` is not part of it; in a file it is "latent_avg". `write` lists the
    values that the file does not keep.

    Raises:
        ValueError: their network would make other pictures; with all the reasons.
    """
    if not isinstance(G, Generator):
        raise ValueError(f"a {type(G).__name__} cannot be written for rosinality's model.py; only StyleGAN2 can")
    reasons = _generator_reasons(G) or _clamping(G, lambda: G.synthesis(G.mapping(_latents(G)), noise_mode="const"))
    if reasons:
        raise ValueError(f"rosinality's model.py has no such generator: {'; '.join(reasons)}")
    return _their_tensors(G, _generator_entries(G.mapping.num_layers, G.synthesis.block_resolutions))


def discriminator_state_dict(D: Discriminator, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state dict with which rosinality's ``model.Discriminator(size, channel_multiplier)`` gives the same scores.

    Args:
        D: the discriminator.
        pictures: (N, 3, R, R), for which it is computed to see if a layer's values reach its clamp.

    Raises:
        ValueError: their network would give other scores; with all the reasons.
    """
    reasons = _discriminator_reasons(D) or _clamping(D, lambda: D(pictures))
    if reasons:
        raise ValueError(f"rosinality's model.py has no such discriminator: {'; '.join(reasons)}")
    return _their_tensors(D, _discriminator_entries(D.block_resolutions))


def write(net: Any, path: str | os.PathLike) -> list[str]:
    """Write the networks of a `file.NetworkFile` for rosinality's code: "g_ema", "latent_avg", "g", "d".

    "g" is written if there are weights without averaging, and "d" if their discriminator can compute the same.

    Args:
        net: the networks.
        path: the file to write. An old file of that name stays whole until the new one is complete.

    Returns:
        A list, in words, of everything that the file does not keep. None of it changes a picture in float32.

    Raises:
        ValueError: their generator cannot compute the same.
    """
    G, D = net["G_ema"], net["D"]
    if not isinstance(G, Generator):
        family = getattr(G, "family", type(G).__name__)
        raise ValueError(f"a network of the family {family} has no place in rosinality's format; only StyleGAN2 has")
    contents: dict[str, Any] = {"g_ema": state_dict(G)}
    lost = _lost(G)
    if net["G"] is not None and net["G"] is not G:
        contents["g"] = state_dict(net["G"])
    if D is not None:
        try:
            with torch.no_grad():
                contents["d"] = discriminator_state_dict(D, G(_latents(G), noise_mode="const"))
            if any(getattr(D, f"b{res}").use_fp16 for res in D.block_resolutions):
                lost.append("half precision of the discriminator on a GPU")
        except ValueError as e:
            lost.append(f"the discriminator ({e})")
    w_avg = G.mapping._buffers.get("w_avg")
    if w_avg is not None:
        contents[LATENT_AVG] = w_avg.detach().cpu().clone()
    with atomic(path) as temporary, open(temporary, "wb") as f:
        torch.save(contents, f)
    lost += ["training_set_kwargs"] if net.training_set_kwargs is not None else []
    return lost + [f"the extra tensors {name!r}" for name in sorted(net.extra)]


def _lost(G: Generator) -> list[str]:
    """A list, in words, of the properties of a generator that a state dict does not keep."""
    lost: list[str] = []
    layers = [m for m in G.modules() if isinstance(m, (SynthesisLayer, ToRGBLayer))]
    clamps = {m.conv_clamp for m in layers if m.conv_clamp is not None}
    if clamps:
        lost.append(
            f"conv_clamp {', '.join(f'{c:g}' for c in sorted(clamps))} (no picture of {SEEDS} seeds reaches it)"
        )
    half = [str(res) for res in G.synthesis.block_resolutions if getattr(G.synthesis, f"b{res}").use_fp16]
    if half:
        lost.append(f"half precision on a GPU at {', '.join(half)}")
    if any(isinstance(m, SynthesisLayer) and not m.use_noise for m in layers):
        lost.append("that layers have no noise (they get noise of strength zero)")
    if any(fc.bias_gain != LR_MLP for fc in G.mapping.children()):
        lost.append("the mapping's lr_multiplier (it is multiplied into the weights)")
    beta = G.mapping.w_avg_beta
    return [*lost, f"w_avg_beta {beta:g}" if beta is not None else "that there is no w_avg"]


def _latents(G: Generator) -> torch.Tensor:
    device = next(G.parameters()).device
    z = np.concatenate([np.random.RandomState(seed).randn(1, G.z_dim) for seed in range(SEEDS)])
    return torch.from_numpy(z).to(device, torch.float32)


def _generator_reasons(G: Generator) -> list[str]:
    blocks = {res: getattr(G.synthesis, f"b{res}") for res in G.synthesis.block_resolutions}
    layers = [m for m in G.modules() if isinstance(m, SynthesisLayer)]
    torgbs = [m for m in G.modules() if isinstance(m, ToRGBLayer)]
    mapping = [getattr(G.mapping, f"fc{i}") for i in range(G.mapping.num_layers)]
    other = sorted({m.activation for m in [*layers, *mapping]} - {"lrelu"})
    widths = {res: block.conv1.out_channels for res, block in blocks.items()}
    filters = [f for res, b in blocks.items() if res > 4 for f in (b.resample_filter, b.conv0.resample_filter)]
    affines = [m.affine for m in layers] + [m.affine for m in torgbs]
    styles = [affine.activation for affine in affines]
    return _reasons(
        (G.c_dim > 0, f"it has {G.c_dim} classes, and theirs none"),
        (G.img_channels != 3, f"its pictures have {G.img_channels} channels, and theirs 3"),
        (G.img_resolution > LARGEST, f"its pictures have {G.img_resolution} pixels a side, and theirs up to {LARGEST}"),
        (
            any(fc.weight.shape != (G.w_dim, G.w_dim) for fc in mapping),
            f"z and the layers of the mapping differ in size from w ({G.w_dim})",
        ),
        (not G.mapping.normalize_z, "z is not divided by its root mean square"),
        (bool(other), f"it has the activation {', '.join(other)}, and theirs lrelu"),
        (any(a != "linear" for a in styles), "its styles have an activation"),
        (
            any(b.architecture != "skip" for b in blocks.values()),
            f"its architecture is {blocks[G.img_resolution].architecture!r}, and theirs 'skip'",
        ),
        (
            any(m.weight.shape[2:] != (3, 3) for m in layers) or any(m.weight.shape[2:] != (1, 1) for m in torgbs),
            "its kernels are not 3x3",
        ),
        (any(f.shape != (4, 4) for f in filters), "its filters have other than four taps"),
        *_width_reasons(widths),
        (
            any(m.act_gain != ACTIVATIONS["lrelu"].gain for m in layers)
            or any(m.weight_gain != 1 / math.sqrt(m.weight[0].numel()) for m in torgbs),
            "gains of its layers were changed",
        ),
    )


def _discriminator_reasons(D: Discriminator) -> list[str]:
    if not isinstance(D, Discriminator):
        return [f"it is a {type(D).__name__}"]
    blocks = {res: getattr(D, f"b{res}") for res in D.block_resolutions}
    convs = [m for m in D.modules() if isinstance(m, Conv2dLayer)]
    main = [m for m in convs if m.bias is not None]
    lrelu = ACTIVATIONS["lrelu"].gain
    other = sorted({D.b4.fc.activation, *(m.activation for m in main)} - {"lrelu"})
    mbstd = D.b4.mbstd
    filters = [
        f for b in blocks.values() if "skip" in b._modules for f in (b.conv1.resample_filter, b.skip.resample_filter)
    ]
    return _reasons(
        (D.c_dim > 0, f"it has {D.c_dim} classes, and theirs none"),
        (D.img_channels != 3, f"its pictures have {D.img_channels} channels, and theirs 3"),
        (D.img_resolution > LARGEST, f"its pictures have {D.img_resolution} pixels a side, and theirs up to {LARGEST}"),
        (
            any(b.architecture != "resnet" for b in [*blocks.values(), D.b4]),
            f"its architecture is {D.b4.architecture!r}, and theirs 'resnet'",
        ),
        (bool(other), f"it has the activation {', '.join(other)}, and theirs lrelu"),
        (
            mbstd is None or (mbstd.group_size, mbstd.num_channels) != (4, 1),
            "it does not compare pictures in groups of 4, with one channel",
        ),
        (any(f.shape != (4, 4) for f in filters), "its filters have other than four taps"),
        *_width_reasons({**{res: b.conv0.out_channels for res, b in blocks.items()}, 4: D.b4.in_channels}),
        (
            any(m.act_gain != lrelu for m in main)
            or any(m.weight_gain != 1 / math.sqrt(m.weight[0].numel()) for m in convs),
            "gains of its layers were changed",
        ),
    )


def _width_reasons(widths: Mapping[int, int]) -> list[tuple[bool, str]]:
    """Reasons why the widths are not theirs, which are 512 up to 32x32, 256 m at 64x64, 128 m at 128x128, and so on."""
    multiplier = widths.get(64, 2 * 256) // 256
    expected = {res: WIDTH if res <= 32 else 256 * 64 * multiplier // res for res in widths}
    wrong = [res for res in sorted(widths) if widths[res] != expected[res] or multiplier == 0]
    channels = ", ".join(f"{widths[res]} channels at {res}x{res}" for res in wrong)
    return [(bool(wrong), f"it has {channels}; theirs are 512 up to 32x32 and 16384 m / resolution above, m whole")]


def _reasons(*possible: tuple[bool, str]) -> list[str]:
    return [text for applies, text in possible if applies]


def _clamping(network: torch.nn.Module, run: Callable[[], Any]) -> list[str]:
    """The reason that layers of the network reach their clamp while ``run`` runs it; empty if none does."""
    clamped = {name: m for name, m in network.named_modules() if getattr(m, "conv_clamp", None) is not None}
    if not clamped:
        return []
    reached: set[str] = set()

    def look(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple, kwargs: dict[str, Any], out: torch.Tensor) -> None:
            if float(out.abs().max()) >= module.conv_clamp * kwargs.get("gain", 1):
                reached.add(name)

        return hook

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in clamped.items():
            stack.callback(module.register_forward_hook(look(name), with_kwargs=True).remove)
        run()
    return [f"conv_clamp acts in {', '.join(sorted(reached))}, and theirs has none"] if reached else []


def _their_tensors(network: torch.nn.Module, entries: Iterator[Entry]) -> dict[str, torch.Tensor]:
    """A network's tensors in their names and shapes: float32 copies on the CPU."""
    ours = network.state_dict()
    result: dict[str, torch.Tensor] = {}
    for entry in entries:
        owner_name, _, last = entry.name.rpartition(".")
        owner: Any = network.get_submodule(owner_name)
        if entry.name in ours:
            value = ours[entry.name].detach().to("cpu", torch.float32)
        else:  # our layer has no noise
            value = torch.zeros([] if last == "noise_strength" else [owner.resolution, owner.resolution])
        value = value.reshape(entry.shape(tuple(value.shape)))
        result[entry.key] = (value * (entry.factor * _extra_gain(owner, owner_name, last))).contiguous().clone()
    return result


def _extra_gain(owner: torch.nn.Module, name: str, last: str) -> float:
    """By how much more a dense layer's tensor is scaled at run time here than there; 1 if learning rates are equal."""
    if not isinstance(owner, FullyConnectedLayer):
        return 1
    lr = LR_MLP if name.startswith("mapping.") else 1
    return owner.bias_gain / lr if last == "bias" else owner.weight_gain / (lr / math.sqrt(owner.in_features))
