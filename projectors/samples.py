"""Random samples of a network, from which searches can start: codes, and small copies of their outputs.

Drawing takes as many forward passes as there are samples, once per network and class; small copies of the outputs are kept in
the cache, under a hash of the network's weights.
"""

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F

from stylegan_invert.cache import cache_dir
from stylegan_invert.errors import ProjectionError
from stylegan_invert.files.door import Kind, opened
from stylegan_invert.files.writing import atomic
from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.losses import Distance

from .objective import map_prepared

COUNT = 512  # the number of samples
TOGETHER = 32  # the features of so many samples are computed at once
SIDE = 64  # pictures above this size are compared at it
NEIGHBOURS = 8  # the start "nearest" is the mean of so many samples in W; in z it is the nearest sample alone
WIDTH = 16.0  # the width of the kernel, in medians of the squared distance between two samples
RIDGE = 0.01  # this number is added to the kernel's diagonal
FORMAT = "stylegan-invert samples 1"
SAMPLES = Kind("samples of a network", 2**26, ProjectionError)  # 512 pictures of 64 pixels have 6 MiB


class Samples:
    """Random codes of a network, and small copies of their outputs.

    Args:
        generator: the network behind its adapter.
        distance: compares outputs with targets.
        observe: as for `Objective`; None compares outputs as they are.
        c: the class (1, c_dim) for a network with classes, else None.
        progress: called while samples are drawn, with those so far and those in all.

    Targets are given in the shape of what is observed. What is above 64 pixels is reduced to that size before it is compared.
    """

    def __init__(
        self,
        generator: GeneratorAdapter,
        distance: Distance,
        observe: Callable[[torch.Tensor], torch.Tensor] | None,
        c: torch.Tensor | None,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.generator, self.distance, self.observe, self.c = generator, distance, observe, c
        z, outputs = kept_samples(generator, c, progress)
        self.z = z.to(generator.device)
        self.outputs = torch.cat([self._seen(part) for part in outputs.split(TOGETHER)])
        self._regressions: dict[str, tuple[torch.Tensor, torch.Tensor, float]] = {}

    def _seen(self, outputs: torch.Tensor) -> torch.Tensor:
        """What is observed of small copies (N, ...) uint8, reduced. An observation expects outputs of the network's size, so
        the copies are enlarged for it."""
        x = outputs.to(self.generator.device).float() / 127.5 - 1
        if self.observe is None:
            return x
        with torch.no_grad():
            return reduced(self.observe(enlarged(x, self.generator.output_shape)))

    def _code(self, space: str, points: torch.Tensor) -> Code:
        """Points (N, d) of "z" or "w" as codes."""
        return Code(space, {space: points}, None if self.c is None else self.c.expand(len(points), -1))

    def points(self, space: str) -> torch.Tensor:
        """The samples (samples, d) in "z" or "w"."""
        with torch.no_grad():
            return self.generator.convert(self._code("z", self.z), space).tensors[space]

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.z)

    @cached_property
    def _features(self) -> object:
        return _joined([self.distance.prepare(part) for part in self.outputs.split(TOGETHER)])

    @cached_property
    def _vectors(self) -> torch.Tensor:
        return self.outputs.flatten(1).cpu().double()

    def nearest(self, shown: torch.Tensor, space: str, count: int = 1) -> Code:
        """The mean in W of the samples that are nearest to a target by the run's loss; in z, the nearest themselves.

        Args:
            shown: observed targets (N, ...) float32 in [-1, 1].
            space: "z" or "w".
            count: the number of codes in z for each target, which lie side by side.
        """
        features = self.distance.prepare(reduced(shown))
        points, means = self.points(space), []
        with torch.no_grad():
            for i in range(len(shown)):
                distances = self.distance.compare(self._features, _row(features, i, len(points)))
                order = distances.argsort()
                means.append(points[order[:count]] if space == "z" else points[order[:NEIGHBOURS]].mean(dim=0)[None])
        return self._code(space, torch.cat(means))

    def _regression(self, space: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Weights (samples, d) and mean (d,) of the regression, and the width of its kernel."""
        between = torch.cdist(self._vectors, self._vectors).square()
        width = float(between.median()) * WIDTH or 1.0  # 1 for a network whose outputs are all alike
        kernel = torch.exp(-between / width) + RIDGE * torch.eye(len(between), dtype=torch.float64)
        points = self.points(space).cpu().double()
        mean = points.mean(dim=0)
        return torch.linalg.solve(kernel, points - mean), mean, width

    def regressed(self, shown: torch.Tensor, space: str) -> Code:
        """The codes that kernel ridge regression predicts for targets. It is fitted to the samples in closed form.

        The kernel of two outputs is exp(-d / width) of their squared Euclidean distance d.

        Args:
            shown: targets (N, ...) float32 in [-1, 1].
            space: "z" or "w".
        """
        if space not in self._regressions:
            self._regressions[space] = self._regression(space)
        weights, mean, width = self._regressions[space]
        seen = reduced(shown).flatten(1).cpu().double()
        kernel = torch.exp(-torch.cdist(seen, self._vectors).square() / width)
        return self._code(space, (kernel @ weights + mean).to(self.z))

    def regressed_or_nearest(self, shown: torch.Tensor, space: str, count: int = 1) -> Code:
        """The code that `regressed` gives for each target, followed by the ``count - 1`` nearest samples."""
        first = self.regressed(shown, space)
        if count == 1:
            return first
        others = self.nearest(shown, space, count - 1).tensors[space]
        points = torch.cat([first.tensors[space][:, None], others.reshape(len(shown), count - 1, -1)], dim=1)
        return self._code(space, points.flatten(0, 1))


def _joined(parts: list) -> object:
    """The results of `Distance.prepare` for several batches, as the result for one."""
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return [_joined(list(one)) for one in zip(*parts)]


def _row(features: object, i: int, count: int) -> object:
    """The features of one target, as those of ``count`` equal ones."""
    return map_prepared(features, lambda x: x[i : i + 1].expand(count, *x.shape[1:]))


def reduced(outputs: torch.Tensor) -> torch.Tensor:
    """Pictures (N, C, H, W) above 64 pixels brought to that size by area averaging; anything else as it is."""
    return (
        F.interpolate(outputs, size=(SIDE, SIDE), mode="area")
        if outputs.ndim == 4 and outputs.shape[2] > SIDE
        else outputs
    )


def enlarged(outputs: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Pictures (N, C', H', W') in the shape (C, H, W) of a network's outputs: interpolated, and with grey as all colours."""
    if outputs.shape[1:] == shape or len(shape) != 3 or outputs.ndim != 4:
        return outputs
    return F.interpolate(outputs, size=shape[1:], mode="bilinear").expand(-1, shape[0], -1, -1)


def kept_samples(
    generator: GeneratorAdapter, c: torch.Tensor | None, progress: Callable[[int, int], None] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (samples, z_dim) and small copies of their outputs, uint8, from the cache, or drawn and put there."""
    name = generator.sha256(c)
    path = cache_dir() / "samples" / f"{name[:32]}.safetensors"
    shape = tuple(reduced(torch.empty([1, *generator.output_shape])).shape[1:])
    (latent,) = generator.code_shapes("z").values()
    known = _read(path, (COUNT, *latent), (COUNT, *shape))
    if known is not None:
        return known
    random = torch.Generator().manual_seed(0)
    z = generator.prior.sample([COUNT, *latent], random)
    outputs = []
    with torch.no_grad():
        for part in z.split(8):
            code = Code("z", {"z": part.to(generator.device)}, None if c is None else c.expand(len(part), -1))
            small = reduced(generator.render(code).clamp(-1, 1))
            outputs.append(((small + 1) * 127.5).round().to(torch.uint8).cpu())
            if progress is not None:
                progress(sum(map(len, outputs)), COUNT)
    result = z, torch.cat(outputs)
    with contextlib.suppress(
        OSError, safetensors.SafetensorError
    ):  # a cache that cannot be written is no reason to stop
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            safetensors.torch.save_file({"z": z.contiguous(), "outputs": result[1]}, temporary, {"format": FORMAT})
    return result


def _read(path: Path, *shapes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The samples in a file; None if there is none, or it is damaged, and is to be made anew."""
    try:
        with opened(path, SAMPLES), safetensors.safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get("format") == FORMAT
            z, outputs = file.get_tensor("z"), file.get_tensor("outputs")
    except (OSError, ValueError, safetensors.SafetensorError):  # the errors of the door are ValueErrors
        return None
    fits = (tuple(z.shape), tuple(outputs.shape)) == shapes and outputs.dtype == torch.uint8
    return (z, outputs) if known and fits and z.dtype == torch.float32 and torch.isfinite(z).all() else None
