"""`project`: from pictures and a network to projections. The Python face and the command line both come through here."""

import copy
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import stylegan_invert
from stylegan_invert.errors import CodeFileError, ImageFileError, ProjectionError
from stylegan_invert.generator import Code, GeneratorAdapter, adapt, check_code, joined, label, set_prior
from stylegan_invert.io.codes import code_file, read_codes
from stylegan_invert.io.download import inception_file, vgg16_file
from stylegan_invert.io.files import sha256_of_file
from stylegan_invert.io.gaussian_file import keep_gaussian
from stylegan_invert.losses import (
    DEFAULT_LOSS,
    Distance,
    FeatureDistance,
    needs_features,
    needs_vgg16,
    parse,
    picture_metrics,
    reported_lpips,
)
from stylegan_invert.media.pictures import Fitted, as_images, read_picture
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.network_files.provenance import carry, provenance_of

from .base import Step, build_options
from .classes import find_class
from .memory import free, measure
from .methods import OWN, find_method
from .projection import Projection, render_pixels
from .z import drawn

Picture = str | os.PathLike | torch.Tensor | np.ndarray
Start = str | os.PathLike | Code | Projection


def project(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile,
    target: Picture | Sequence[Picture],
    method: str = "w",
    **arguments: Any,
) -> Projection | list[Projection]:
    """Find the codes of pictures.

    Args:
        G: a generator, or a network file.
        target: a file, a (C, H, W) uint8 array or tensor of the network's size, or a list of these.
        method: "w", "w+", "de", or a method of another package; see `methods`.
        arguments: steps=1000, seed=303, loss=..., class_idx=..., init=..., save_noise=..., and all others of
            `project_each`.

    Returns:
        A `Projection` for one target, a list for several (also for a list of one).

    Raises:
        ValueError: see `project_each`.
    """
    several = isinstance(target, (list, tuple))
    results = list(project_each(G, target if several else [target], method, **arguments))
    return results if several else results[0]


def project_each(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile,
    targets: Sequence[Picture],
    method: str = "w",
    *,
    loss: str | Distance | None = None,
    vgg16: str | os.PathLike | None = None,
    inception: str | os.PathLike | None = None,
    class_idx: int | str | None = None,
    statistics: str | os.PathLike | None = None,
    z_prior: str | None = None,
    init: Start | Sequence[Start] | None = None,
    sequence: bool = False,
    save_noise: bool = False,
    keep_steps: bool = False,
    batch: int | str = 1,
    fit: str = "crop",
    background: str = "white",
    callback: Callable[[int, Step], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Iterator[Projection]:
    """`project` for many targets: gives each projection when it is there, and keeps none.

    Args:
        G: a generator (or a network file, for its ``G``); it computes where it is, and is left as it is.
        targets: files, or (C, H, W) uint8 arrays or tensors of the network's size.
        method: a key of `methods.METHODS`, or a method of another package. "w" and "w+" are for StyleGAN2; "z" and "dense"
            for every network. "de" takes what the network's discriminator finds in one pass: the network file must be given,
            and have a direction-embedding discriminator.
        loss: a text like "lpips-squeeze=1,mse=1" (see `losses.LOSSES`), or a `Distance`; None takes the method's, which is
            `losses.DEFAULT_LOSS` but for presets.
        vgg16: file for "lpips-vgg"; None takes ``STYLEGAN_INVERT_VGG16``, else the official one.
        inception: file for "features", or "download"; None takes ``STYLEGAN_INVERT_INCEPTION``, else the shipped SqueezeNet.
        class_idx: the class, for a network that has classes. "search" finds it for each target, see `classes.find_class`,
            and takes targets one after another; "relaxed" optimises a mixture of all classes together with z, from equal parts
            on or from that of ``init``, for methods that search z.
        statistics: file of the Gaussian of V, for a prior in it and for methods that work there; None takes the one in the
            cache, which is made when it is first needed.
        z_prior: "normal" or "uniform", for a network whose file does not say what its z was drawn from.
        init: where to start: None for the method's own start, "mean", "de" for what the discriminator finds, or a code, a
            projection, a file of codes or a folder with one; one for all targets, or a list of one for each.
        sequence: the targets are frames of a video: each but the first starts from the result of the one before.
        save_noise: keep the optimised noise maps in the code, and render with them. Without them the picture is
            rendered with the network's stored maps, as the official tool does.
        keep_steps: keep the code after each step, for a video.
        batch: targets that share a pass on a GPU; "auto" measures what one takes, and lets as many share as its memory
            holds (result.json then says how much that is). A CPU takes them one after another whatever this says: for networks of
            official sizes that is about as fast, and the results are then those of single runs to the bit.
        fit, background: how files are brought to shape; see `media.pictures.read_picture`.
        callback: called with the index of the first target of the pass, and the `Step`.
        progress: called while the Gaussian of V is made, with the samples so far and those expected in all.
        options: those of the method, by name: steps, seed, initial_learning_rate, ... (fields of its options class).

    Raises:
        ValueError: an argument, with what was expected. Its kinds `ImageFileError`, `CodeFileError` and
            `ProjectionError` are for unreadable pictures, for codes that do not fit, and for other arguments and
            distances that are no numbers. All targets are looked at before the first is projected.
    """
    chosen = find_method(method)
    preset = dict(chosen.preset)
    own_loss = preset.pop("loss", DEFAULT_LOSS)
    loss = own_loss if loss is None else loss
    if chosen.one_pass:
        given = {**options, "init": init, "sequence": sequence, "save_noise": save_noise, "keep_steps": keep_steps}
        superfluous = [name for name, value in given.items() if name in options or value]
        if superfluous:
            raise ProjectionError(
                f"method {method!r} takes no steps, so {', '.join(superfluous)} has no meaning for it"
            )
    settings = build_options(chosen.options_class(), {**preset, **options})
    if save_noise and getattr(settings, "noise_maps", "fixed") == "fixed":
        raise ProjectionError(f"method {method!r} as asked for fits no noise maps, so save_noise has no meaning for it")
    idle = settings.without_effect() if hasattr(settings, "without_effect") else {}
    for name in options:
        if name in idle:
            raise ProjectionError(f"{name} has no effect here: {idle[name]}")
    net, G = (G, G.G) if isinstance(G, NetworkFile) else (None, G)
    generator = adapt(_frozen(G))
    set_prior(generator, z_prior)
    searched = class_idx == "search"
    if class_idx == "relaxed":
        if not generator.c_dim or not hasattr(settings, "class_vector") or "class_vector" in idle:
            why = (
                f"the method {method!r} as asked for does not search z"
                if generator.c_dim
                else "this network has no classes"
            )
            raise ProjectionError(f"a relaxed class was asked for, and {why}")
        if settings.prior_weight:
            raise ProjectionError(
                "the Gaussian of V is of one class, so a relaxed class has no prior in V; leave out one"
            )
        settings = dataclasses.replace(settings, class_vector="relaxed")
        c = torch.full([1, generator.c_dim], 1 / generator.c_dim)
    elif searched:
        if sequence or not generator.c_dim:
            why = "the frames of a sequence are of one class" if sequence else "this network has no classes"
            raise ProjectionError(f"the class is to be searched for, and {why}")
        c = label(generator.c_dim, 0)  # for the checks of starts; each target then has its own
    else:
        c = label(generator.c_dim, class_idx)
    c = None if c is None else c.to(generator.device)
    in_v = getattr(settings, "prior_weight", 0) or str(chosen.space).startswith("v")
    if in_v and not searched:
        keep_gaussian(generator, c, statistics, progress)
    elif statistics is not None and not in_v:
        raise ProjectionError(
            f"method {method!r} was asked for without a prior in V, so statistics have no meaning for it"
        )
    if chosen.space is not None and chosen.space not in generator.spaces:
        raise ProjectionError(
            f"method {method!r} works in {chosen.space}, and this network has {', '.join(generator.spaces)}; choose z or dense"
        )
    if not targets:
        raise ProjectionError("no targets were given")
    if batch != "auto" and (type(batch) is not int or batch < 1):
        raise ProjectionError(f"batch is {batch!r}; expected an integer of at least 1, or 'auto'")
    given_inits = _one_for_each(init, targets)
    inits = [chosen.start if i is None else i for i in given_inits]
    encode = _encoder(net, generator, chosen.space or "z", c) if any(_is(i, "de") for i in inits) else None
    own = drawn(generator, settings, 1, c) if any(i is OWN for i in inits) else None
    searches_z = chosen.start == OWN and getattr(settings, "first_step", "z") == "z"
    starts = [
        None if _is(i, "de") else own if i is OWN
        else _start(i, generator, chosen.space, c, searches_z, class_idx == "relaxed") for i in inits
    ]  # fmt: skip
    for target in targets:  # before hours of work; they are read again when their turn comes, and not kept until then
        _picture(target, generator, fit, background)
    distance, loss_record = build_loss(loss, vgg16, inception, generator.device)
    if searched:
        arguments = dict(
            loss=loss, vgg16=vgg16, inception=inception, statistics=statistics, z_prior=z_prior, save_noise=save_noise,
            keep_steps=keep_steps, fit=fit, background=background, progress=progress, **options,
        )  # fmt: skip
        for i, target in enumerate(targets):  # one after another, each in its own class
            shown = as_images(_picture(target, generator, fit, background)[0][None], generator.device)
            found = find_class(generator, shown, distance, getattr(settings, "seed", 0))
            watch = None if callback is None else lambda first, step, i=i: callback(i, step)
            for result in project_each(
                net or G, [target], method, class_idx=found, init=given_inits[i], callback=watch, **arguments
            ):
                result.record["options"]["class_found_by"] = "search"
                yield result
        return
    lpips_network, lpips = reported_lpips(distance)
    lpips = lpips.to(generator.device)

    run = chosen.load()
    memory = None
    if chosen.one_pass:
        together = 64 if batch == "auto" else max(batch, 64)
    elif generator.device.type == "cpu" or sequence:
        together = 1
    elif batch == "auto":
        one = as_images(_picture(targets[0], generator, fit, background)[0][None], generator.device)
        memory = measure(generator, distance, one, generator.center(chosen.space or "z", c))
        together = min(memory.fitting(free(generator.device)), len(targets))
    else:
        together = batch
    for first in range(0, len(targets), together):
        pictures = [_picture(t, generator, fit, background) for t in targets[first : first + together]]
        pixels = torch.from_numpy(np.stack([p for p, _ in pictures]))
        shown = as_images(pixels, generator.device)
        watch = _Watch(first, keep_steps, callback)
        began = time.perf_counter()
        encoded = encode(shown) if encode is not None else [None] * len(shown)
        start = joined([s or e for s, e in zip(starts[first : first + together], encoded)])
        found = run(generator, shown, distance, start, settings, watch)
        seconds = (time.perf_counter() - began) / len(pixels)
        for i, code in enumerate(found.code):
            if sequence and first + 1 < len(targets):
                starts[first + 1] = code
            code = code if save_noise else code.without_noise()
            image = torch.from_numpy(render_pixels(generator, code))
            fitted, init_ = pictures[i][1], inits[first + i]
            yield Projection(
                code=code.to("cpu"),
                target=pixels[i],
                image=image,
                metrics={**picture_metrics(pixels[i], image, {"lpips": lpips}), "lpips_network": lpips_network},
                distance=found.distance[:, i],
                record={
                    "method": method,
                    "space": code.space,
                    "options": {
                        **dataclasses.asdict(settings),
                        **loss_record,
                        "class": class_idx,
                        "init": "the result before" if sequence and first else _name(init_),
                        **({"z_prior": generator.prior.family} if hasattr(G, "z_prior") else {}),
                        "noise": "optimised, saved with the code" if save_noise else "the network's own",
                        "batch": together,
                        **({"memory": dataclasses.asdict(memory)} if memory is not None else {}),
                    },
                    **{name: values[i] for name, values in found.notes.items()},
                    "network": {"resolution": generator.img_resolution, **_source(G)},
                    "target": fitted.as_dict() if fitted else "given as an array",
                    "seconds": round(seconds, 3),
                    "versions": _versions(generator.device),
                },
                steps=[codes[i : i + 1] for codes in watch.trail] or None,
                generator=generator,
            )


def _one_for_each(init: Start | Sequence[Start] | None, targets: Sequence[Picture]) -> list[Start | None]:
    inits = list(init) if isinstance(init, (list, tuple)) else [init] * len(targets)
    if len(inits) != len(targets):
        raise ProjectionError(f"{len(inits)} starting codes for {len(targets)} targets; give one, or one for each")
    return inits


class _Watch:
    """The callback of one pass: keeps the code of each step if it is wanted, and tells the caller."""

    def __init__(self, first: int, keep_steps: bool, callback: Callable[[int, Step], None] | None):
        self.first, self.keep_steps, self.callback = first, keep_steps, callback
        self.trail: list[Code] = []

    def __call__(self, step: Step) -> None:
        if self.keep_steps:
            self.trail.append(step.code.without_noise().to("cpu").detach())
        if self.callback is not None:
            self.callback(self.first, step)


def _frozen(G: torch.nn.Module | GeneratorAdapter) -> torch.nn.Module | GeneratorAdapter:
    """The network in eval mode and without gradients: itself if it is, else a copy."""
    if not isinstance(G, torch.nn.Module) or not (G.training or any(p.requires_grad for p in G.parameters())):
        return G
    frozen = copy.deepcopy(G).eval().requires_grad_(False)
    carry(G, frozen)
    return frozen


def _picture(
    target: Picture, generator: GeneratorAdapter, fit: str, background: str
) -> tuple[np.ndarray, Fitted | None]:
    resolution, channels = generator.img_resolution, generator.img_channels
    if isinstance(target, (str, os.PathLike)):
        return read_picture(target, resolution, channels, fit, background)
    pixels = target.detach().cpu().numpy() if isinstance(target, torch.Tensor) else np.asarray(target)
    if pixels.shape != (channels, resolution, resolution) or pixels.dtype != np.uint8:
        raise ImageFileError(
            f"a target of shape {pixels.shape}, {pixels.dtype}; expected ({channels}, {resolution}, {resolution}) uint8. "
            "A file of any size may be named instead"
        )
    return pixels, None


def _is(init: Start, name: str) -> bool:
    return isinstance(init, str) and init == name


def _encoder(
    net: NetworkFile | None, generator: GeneratorAdapter, space: str, c: torch.Tensor | None
) -> Callable[[torch.Tensor], Code]:
    """From pictures (N, C, R, R) in [-1, 1] to the codes that the file's discriminator finds, in the method's space."""
    direction = net.direction if net is not None else None
    if direction is None:
        lacks = f"{net.file} has none" if net is not None else "a generator alone was given; give the network file"
        raise ProjectionError(
            f"the start 'de' is what a direction-embedding discriminator finds, and {lacks}. Such networks are made by "
            "'stylegan-invert train --head direction'"
        )
    if any(p.device != generator.device for p in direction.parameters()):
        direction = copy.deepcopy(direction).to(generator.device)

    def encode(shown: torch.Tensor) -> Code:
        with torch.no_grad():
            z = direction.invert(shown)
        return generator.convert(Code("z", {"z": z}, None if c is None else c.expand(len(z), -1)), space)

    return encode


def _start(
    init: Start, generator: GeneratorAdapter, space: str | None, c: torch.Tensor | None, prefer_z: bool = False,
    own_class: bool = False,
) -> Code:  # fmt: skip
    """One starting code, in the method's space, or where it lies if the method takes any; in the class ``c``, or its own."""
    if _is(init, "mean"):
        return generator.center(space or "z", c)
    name = _name(init)
    if isinstance(init, (str, os.PathLike)):
        code = read_codes(code_file(init) if os.path.isdir(init) else init, prefer_z)
    elif isinstance(init, (Code, Projection)):
        code = init.code if isinstance(init, Projection) else init
    else:
        raise CodeFileError(f"init is {name}; expected a Code, a Projection, or the path of a file of codes")
    check_code(code, generator, name)
    if len(code) != 1:
        raise CodeFileError(f"{name}: it holds {len(code)} codes; expected one to start from")
    c = code.c.to(generator.device) if own_class and code.c is not None else c
    code = Code(code.space, {k: v.to(generator.device, torch.float32) for k, v in code.tensors.items()}, c)
    try:
        return generator.convert(code, space or code.space)
    except ValueError as e:
        raise CodeFileError(f"{name}: {e}") from None


def build_loss(
    loss: str | Distance, vgg16: Any, inception: Any, device: torch.device
) -> tuple[Distance, dict[str, Any]]:
    """The distance, on a device, and what result.json says of it.

    Args:
        loss, vgg16, inception: as for `project_each`.
    """
    if isinstance(loss, Distance):
        return loss.to(device), {"loss": type(loss).__name__}
    if not isinstance(loss, str):
        raise ProjectionError(f"loss is {loss!r}; expected a text like {DEFAULT_LOSS!r}, or a Distance")
    record: dict[str, Any] = {"loss": loss}
    file = None
    if needs_vgg16(loss):
        file = vgg16_file(vgg16)
        record["vgg16"] = {"file": str(file), "sha256": sha256_of_file(file) if file.is_file() else None}
    elif vgg16 is not None:
        raise ProjectionError(
            f"a VGG16 was named ({os.fspath(vgg16)}), and the loss {loss!r} has no lpips-vgg to use it"
        )
    other = None
    if needs_features(loss):
        other = inception_file(inception)
        if other is not None:
            record["inception"] = {"file": str(other), "sha256": sha256_of_file(other) if other.is_file() else None}
    elif inception is not None:
        raise ProjectionError(
            f"an InceptionV3 was named ({os.fspath(inception)}), and the loss {loss!r} has no features to use it"
        )
    distance = parse(loss, file, other)
    names = [part.name for part in distance.distances if isinstance(part, FeatureDistance)]
    return distance.to(device), {**record, **({"feature_network": names[0]} if names else {})}


def _name(init: Start) -> str:
    if init is OWN:
        return "drawn from the prior"
    return os.fspath(init) if isinstance(init, (str, os.PathLike)) else f"a {type(init).__name__}"


def _source(G: torch.nn.Module | GeneratorAdapter) -> dict[str, Any]:
    provenance = provenance_of(getattr(G, "network", G))
    record = {"file": provenance.file, "sha256": provenance.sha256}
    return {**record, "changed": True} if provenance.changed else record


def _versions(device: torch.device) -> dict[str, str]:
    return {
        "stylegan_invert": stylegan_invert.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
