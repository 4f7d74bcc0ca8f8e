"""Random samples of a network, from which searches can start: codes, and small copies of their outputs.

Drawing takes as many forward passes as there are samples, once per network and class; small copies of the outputs are kept in
the cache, under a hash of the network's weights.
"""

import contextlib
import hashlib
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F

from stylegan_invert.cache import cache_dir
from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.io.files import atomic
from stylegan_invert.losses import Distance

from .objective import Observation, map_prepared

COUNT = 512  # the number of samples
SIDE = 64  # pictures above this size are compared at it
NEIGHBOURS = 8  # the start "nearest" is the mean of so many samples in W; in z it is the nearest sample alone
WIDTH = 16.0  # the width of the kernel, in medians of the squared distance between two samples
RIDGE = 0.01  # this number is added to the kernel's diagonal
FORMAT = "stylegan-invert samples 1"


class Samples:
    """Random codes of a network, and small copies of their outputs.

    Args:
        generator: the network behind its adapter.
        distance: compares outputs with targets.
        observe: as for `Objective`; None compares outputs as they are.
        c: the class (1, c_dim) for a network with classes, else None.

    Raises:
        ProjectionError: outputs are above 64 pixels and are to be observed, which their small copies cannot be.
    """

    def __init__(
        self, generator: GeneratorAdapter, distance: Distance, observe: Observation | None, c: torch.Tensor | None
    ):
        if observe is not None and generator.output_shape[-1] > SIDE:
            raise ProjectionError(
                f"a start from samples compares at {SIDE} pixels, which 'observe' may not expect; start from the mean"
            )
        self.distance, self.observe, self.c = distance, observe, c
        self.space = "w" if "w" in generator.spaces else "z"
        z, outputs = kept_samples(generator, c)
        codes = Code("z", {"z": z.to(generator.device)}, None if c is None else c.expand(len(z), -1))
        (self.key,) = generator.code_shapes(self.space)
        with torch.no_grad():
            self.points = generator.convert(codes, self.space).tensors[self.key]
        self.outputs = self._seen(outputs.to(generator.device).float() / 127.5 - 1)

    def _seen(self, outputs: torch.Tensor) -> torch.Tensor:
        """Small outputs or targets, after ``observe``."""
        return outputs if self.observe is None else self.observe(outputs)

    def _code(self, points: torch.Tensor) -> Code:
        """Points (N, d) of `space` as codes."""
        return Code(self.space, {self.key: points}, None if self.c is None else self.c.expand(len(points), -1))

    @cached_property
    def _features(self) -> object:
        return self.distance.prepare(self.outputs)

    def nearest(self, shown: torch.Tensor) -> Code:
        """The mean of the samples that are nearest to a target, by the run's loss; without w, the nearest alone.

        Args:
            shown: targets (N, ...) float32 in [-1, 1].
        """
        count = 1 if self.space == "z" else NEIGHBOURS
        features = self.distance.prepare(self._seen(reduced(shown)))
        points = []
        with torch.no_grad():
            for i in range(len(shown)):
                distances = self.distance.compare(self._features, _row(features, i, len(self.points)))
                points.append(self.points[distances.argsort()[:count]].mean(dim=0))
        return self._code(torch.stack(points))

    @cached_property
    def _regression(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Weights (samples, d) and mean (d,) of the regression, and the width of its kernel."""
        between = _squared_distances(self.outputs, self.outputs)
        width = float(between.median()) * WIDTH
        kernel = torch.exp(-between / width) + RIDGE * torch.eye(len(between), dtype=torch.float64)
        points = self.points.double().cpu()
        mean = points.mean(dim=0)
        return torch.linalg.solve(kernel, points - mean), mean, width

    def regressed(self, shown: torch.Tensor) -> Code:
        """The codes that kernel ridge regression predicts for targets. It is fitted to the samples in closed form.

        The kernel of two outputs is exp(-d / width) of their squared Euclidean distance d.

        Args:
            shown: targets (N, ...) float32 in [-1, 1].
        """
        weights, mean, width = self._regression
        kernel = torch.exp(-_squared_distances(self._seen(reduced(shown)), self.outputs) / width)
        return self._code((kernel @ weights + mean).to(self.points))


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The squared distances between all pairs of outputs: (len(a), len(b)) float64, on the CPU."""
    return torch.cdist(a.flatten(1).double().cpu(), b.flatten(1).double().cpu()).square()


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


def kept_samples(generator: GeneratorAdapter, c: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (samples, z_dim) and small copies of their outputs, uint8, from the cache, or drawn and put there."""
    name = weights_sha256(generator, c)
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
        with safetensors.safe_open(path, "pt") as opened:
            z, outputs = opened.get_tensor("z"), opened.get_tensor("outputs")
    except (OSError, safetensors.SafetensorError):
        return None
    fits = (tuple(z.shape), tuple(outputs.shape)) == shapes and outputs.dtype == torch.uint8
    return (z, outputs) if fits and z.dtype == torch.float32 and torch.isfinite(z).all() else None


def weights_sha256(generator: GeneratorAdapter, c: torch.Tensor | None) -> str:
    """SHA-256 of all weights of a network, of its prior, and of a class."""
    total = hashlib.sha256(f"{generator.prior} {None if c is None else c.flatten().tolist()}".encode())
    for name, value in sorted(generator.network.state_dict().items()):
        x = value.detach().cpu().contiguous()
        total.update(f"{name} {x.dtype} {tuple(x.shape)};".encode())
        total.update(x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"")
    return total.hexdigest()
