"""Where a projection starts. A start gives the codes of the targets in a pass; those with a name stand in `STARTS`."""

import copy
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from stylegan_invert.errors import CodeFileError, ProjectionError
from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.generator.encoding import Encoding
from stylegan_invert.io.codes import check_codes, code_file, read_codes
from stylegan_invert.io.encoder_file import About, read_encoder, shipped_for
from stylegan_invert.network_files.file import NetworkFile

from .projection import Projection
from .samples import Samples, enlarged
from .settings import MethodOptions
from .z import draw


def _no_samples() -> Samples:
    raise ValueError("this setting has no samples of the network")


class Setting(NamedTuple):
    """The properties of a run that a start may need.

    Attributes:
        generator: the run's generator.
        net: the network file; None if the run was given a bare generator.
        space: the space in which the codes have to lie; None for any.
        options: the options of the method.
        c: the label (1, c_dim) of all targets; one class of several while each target's own is still to be found.
        own_class: True if a code that is started from keeps its own class, since classes are optimised.
        encoder: an encoder of the network with what its file says of it, if one was given.
        samples: gives what the network draws, made when first asked for.
    """

    generator: GeneratorAdapter
    net: NetworkFile | None
    space: str | None
    options: MethodOptions
    c: torch.Tensor | None = None
    own_class: bool = False
    samples: Callable[[], Samples] = _no_samples
    encoder: tuple[Encoding, About] | None = None


class Start(Protocol):
    """From the observed targets of a pass, (N, ...) in [-1, 1], and their labels (N, c_dim) or None, to N codes."""

    def __call__(self, shown: torch.Tensor, c: torch.Tensor | None, /) -> Code: ...


Init = str | os.PathLike | Code | Projection


def mean(setting: Setting) -> Start:
    """The mean code of the space, of each target's class."""

    def start(shown: torch.Tensor, c: torch.Tensor | None) -> Code:
        center = setting.generator.center(setting.space or "z", None if c is None else c[:1])
        return _for_each(center, len(shown), c)

    return start


def random(setting: Setting) -> Start:
    """A latent drawn from the prior; the same for every target, since all have the same seed."""
    generator, options = setting.generator, setting.options
    bound = getattr(options, "start_bound", None)

    def start(shown: torch.Tensor, c: torch.Tensor | None) -> Code:
        (shape,) = generator.code_shapes("z").values()
        z = draw(generator.prior, shape, torch.Generator(generator.device).manual_seed(options.seed), bound)
        code = _for_each(Code("z", {"z": z[None]}), len(shown), c)
        return code if setting.space is None else generator.convert(code, setting.space)

    return start


def de(setting: Setting) -> Start:
    """The code that the file's direction-embedding discriminator finds in one pass over the targets (Cho)."""
    net, generator = setting.net, setting.generator
    direction = net.direction if net is not None else None
    if direction is None:
        lacks = f"{net.file} has none" if net is not None else "a generator alone was given; give the network file"
        raise ProjectionError(
            f"the start 'de' is what a direction-embedding discriminator finds, and {lacks}. Such networks are made by "
            "'stylegan-invert train --head direction'"
        )
    if any(p.device != generator.device for p in direction.parameters()):
        direction = copy.deepcopy(direction).to(generator.device)

    def start(shown: torch.Tensor, c: torch.Tensor | None) -> Code:
        with torch.no_grad():
            z = direction.invert(enlarged(shown, generator.output_shape))
        return generator.convert(Code("z", {"z": z}, c), setting.space or "z")

    return start


def encoder(setting: Setting) -> Start:
    """The code that an encoder of the network finds, converted to the space that is asked for (Bayat, chapter 2).

    If no encoder was given, one that comes with this package for this network is used.
    """
    if setting.encoder is not None:
        encoding, about = setting.encoder
    elif (shipped := shipped_for(setting.generator)) is not None:
        encoding, about = read_encoder(shipped, setting.generator)
    else:
        raise ProjectionError(
            "the start 'encoder' is what an encoder finds, and none was given; name its file (--encoder FILE). "
            "'stylegan-invert train-encoder' makes one"
        )
    refine = getattr(setting.options, "refine", None)
    refine = about.passes - 1 if refine is None else refine
    space = setting.space or encoding.space
    if setting.options.searches_z and encoding.space != "z":
        raise ProjectionError(
            f"the search is for z, and the encoder finds codes in {encoding.space}; train one with --space z"
        )

    def start(shown: torch.Tensor, c: torch.Tensor | None) -> Code:
        try:
            whole = enlarged(shown, setting.generator.output_shape)
            return setting.generator.convert(encoding.encode(whole, c, refine), space)
        except ValueError as e:
            raise ProjectionError(f"the start 'encoder' cannot be used: {e}") from None

    return start


def nearest(setting: Setting) -> Start:
    """The mean of those samples of the network that are nearest to a target by the run's own loss; in z, as many of them as
    there are restarts."""
    return _from_samples(setting, Samples.nearest)


def regression(setting: Setting) -> Start:
    """The code that a regression predicts for a target; see `Samples.regressed`. In z, further restarts begin at the nearest
    samples."""
    return _from_samples(setting, Samples.regressed_or_nearest)


def _from_samples(setting: Setting, choose: Callable[[Samples, torch.Tensor, str, int], Code]) -> Start:
    space = "z" if setting.space in (None, "z") else "w"
    count = setting.options.codes_per_target if space == "z" else 1

    def start(shown: torch.Tensor, c: torch.Tensor | None) -> Code:
        many = min(count, setting.samples().count)
        code = choose(setting.samples(), shown, space, many)
        labels = None if c is None else c.repeat_interleave(many, dim=0)
        return setting.generator.convert(Code(code.space, code.tensors, labels), setting.space or code.space)

    return start


STARTS: dict[str, Callable[[Setting], Start]] = {
    "mean": mean,
    "random": random,
    "de": de,
    "encoder": encoder,
    "nearest": nearest,
    "regression": regression,
}


def given(init: Init, setting: Setting) -> Start:
    """One code for every target: that of a `Code`, a `Projection`, a file of codes, or a folder with one.

    Raises:
        CodeFileError: it is none of these, or does not fit the network.
    """
    generator, name = setting.generator, name_of(init)
    if isinstance(init, (str, os.PathLike)):
        code = read_codes(code_file(init) if os.path.isdir(init) else init, setting.options.searches_z)
    elif isinstance(init, (Code, Projection)):
        code = init.code if isinstance(init, Projection) else init
    else:
        raise CodeFileError(f"init is {name}; expected a Code, a Projection, or the path of a file of codes")
    check_codes(code, generator, name)
    if len(code) != 1:
        raise CodeFileError(f"{name}: it holds {len(code)} codes; expected one to start from")
    tensors = {k: v.to(generator.device, torch.float32) for k, v in code.tensors.items()}
    c = code.c.to(generator.device) if setting.own_class and code.c is not None else setting.c
    try:
        converted = generator.convert(Code(code.space, tensors, c), setting.space or code.space)
    except ValueError as e:
        raise CodeFileError(f"{name}: {e}") from None

    def start(shown: torch.Tensor, labels: torch.Tensor | None) -> Code:
        return _for_each(converted, len(shown), None if c is None else c.expand(len(shown), -1))

    return start


def prepare(init: Init, setting: Setting) -> Start:
    """The start that a user asks for as ``init``.

    Raises:
        ValueError: it cannot be used.
    """
    if isinstance(init, str) and init in STARTS:
        return STARTS[init](setting)
    return given(init, setting)


def one_each(init: Any, count: int) -> list[Init | None]:
    """The starts of ``count`` targets: those of a list or tuple, or one for all."""
    return [*init] if isinstance(init, (list, tuple)) else [init] * count


def name_of(init: Init) -> str:
    """The name of a start in result.json."""
    if init == "random":
        return "drawn from the prior"
    return os.fspath(init) if isinstance(init, (str, os.PathLike)) else f"a {type(init).__name__}"


def _for_each(code: Code, count: int, c: torch.Tensor | None) -> Code:
    """One code as the code of each of ``count`` targets, with their labels."""
    return Code(code.space, {k: v.expand(count, *v.shape[1:]) for k, v in code.tensors.items()}, c)
