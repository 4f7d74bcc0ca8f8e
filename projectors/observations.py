"""What happens to an output before it is compared with a target: a part is hidden, it is made smaller, loses its colours.

A target that was damaged in a known way is restored by the code whose output, damaged in the same way, comes nearest to it.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from stylegan_invert.errors import ProjectionError, meant, printable
from stylegan_invert.losses.base import as_rgb
from stylegan_invert.media.pictures import read_mask

from .jpeg import cosines, jpeg, mixed, tables
from .resampling import KERNELS, filtered, gaussian, matrix

Shape = tuple[int, ...]


class Observation(torch.nn.Module):
    """From outputs (N, C, H, W) in [-1, 1] to what is compared, row by row and with gradients. This class changes nothing.

    Attributes:
        text: its description, which `parse` reads.
        media: the kinds of outputs that it can be of, by their names in `media.medium.MEDIA`.
        parts: the observations of which it is made, in order.
    """

    text = ""
    media: tuple[str, ...] = ("picture",)

    def __init__(self) -> None:
        super().__init__()
        self.place: torch.Tensor
        self.register_buffer("place", torch.zeros([]), persistent=False)  # lies on the device of the observation

    @property
    def parts(self) -> Sequence["Observation"]:
        return [self]

    def shape(self, shape: Shape) -> Shape:
        """The shape (C', H', W') of what is observed of outputs (C, H, W), for which the observation is prepared.

        Raises:
            ProjectionError: it does not fit such outputs.
        """
        return shape

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """What is observed of outputs of the shape that was prepared."""
        return outputs

    def degrade(self, targets: torch.Tensor) -> torch.Tensor:
        """What is observed of whole targets, within [-1, 1]."""
        return self(targets).clamp(-1, 1)

    def accept(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets that are observed already, as they are compared."""
        return targets

    def known(self) -> torch.Tensor | None:
        """(H, W) bool, where a target shows pixels of the whole picture as they are; None if it does not show any."""
        return None

    def composed(self, targets: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor | None:
        """Outputs (N, C, H, W) into which is put what targets show of the whole picture; None if that cannot be told apart."""
        known = self.known()
        return None if known is None else torch.where(known, targets, outputs)


class Function(Observation):
    """A function of Python as an observation, from (N, ...) to (N, ...)."""

    media = ("picture", "sound")

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function, self.text = (
            function,
            f"the function {getattr(function, '__qualname__', type(function).__name__)}",
        )

    def shape(self, shape: Shape) -> Shape:
        with torch.no_grad():
            return tuple(self.function(torch.zeros([1, *shape], device=self.place.device)).shape[1:])

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return self.function(outputs)

    def degrade(self, targets: torch.Tensor) -> torch.Tensor:
        return self(targets)


class Mask(Observation):
    """The pixels that a picture shows in white. All others take the value of the nearest of these, if one is within a sixteenth
    of the picture's side; else they become mid-grey.

    So LPIPS compares pictures also where few pixels are known, and not a grey one with dots (docs/reproduce/restoration.md).

    Args:
        file: a picture of the size of what is observed. A pixel is known if it is brighter than half of white.
    """

    def __init__(self, file: str):
        super().__init__()
        self.bright: torch.Tensor
        self.nearest: torch.Tensor
        self.near: torch.Tensor
        if not file:
            raise ProjectionError("mask needs the file of a picture whose white pixels are known, as in mask:known.png")
        self.file, self.text = file, f"mask:{file}"
        bright = torch.from_numpy(read_mask(file))
        if not bright.any():
            raise ProjectionError(
                f"{printable(file, 300)}: the mask is empty; white marks the pixels that are known, and there is none"
            )
        from scipy import ndimage  # half a second that other runs need not wait for

        distances, places = ndimage.distance_transform_edt(~bright.numpy(), return_indices=True)
        nearest = torch.from_numpy(places[0] * bright.shape[1] + places[1]).long()
        self.register_buffer("bright", bright)
        self.register_buffer("nearest", nearest.flatten())
        self.register_buffer("near", torch.from_numpy(distances <= max(bright.shape) / 16))

    def shape(self, shape: Shape) -> Shape:
        came = tuple(self.bright.shape)
        if came != shape[1:]:
            raise ProjectionError(
                f"{printable(self.file, 300)}: the mask has {came[1]}x{came[0]} pixels; what it is laid on has "
                f"{shape[2]}x{shape[1]}, so draw it at that size"
            )
        return shape

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.flatten(2)[:, :, self.nearest].reshape(outputs.shape) * self.near

    def accept(self, targets: torch.Tensor) -> torch.Tensor:
        return self(targets)

    def known(self) -> torch.Tensor | None:
        return self.bright


class Downsample(Observation):
    """A picture of a smaller size, with the filters of Pillow.

    Args:
        factor: how many pixels of a row become one, a whole number.
        kernel: a name in `resampling.KERNELS`.
    """

    def __init__(self, factor: str, kernel: str = "bicubic"):
        super().__init__()
        self.along: torch.Tensor
        self.factor = whole("downsample", factor, 2, 1024)
        if kernel not in KERNELS:
            raise ProjectionError(
                f"downsample knows no filter {printable(repr(kernel), 80)}; expected {', '.join(KERNELS)}"
            )
        self.kernel, self.text = kernel, f"downsample:{self.factor}:{kernel}"

    def shape(self, shape: Shape) -> Shape:
        if shape[1] % self.factor:
            raise ProjectionError(
                f"downsample by {self.factor}, and the side has {shape[1]} pixels; the factor must divide it"
            )
        self.register_buffer("along", matrix(shape[1], self.factor, KERNELS[self.kernel]), persistent=False)
        return shape[0], *self.along.shape[:1], *self.along.shape[:1]

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return filtered(outputs, self.along)


class Blur(Observation):
    """A Gaussian blur.

    Args:
        sigma: its standard deviation in pixels.
    """

    def __init__(self, sigma: str):
        super().__init__()
        self.along: torch.Tensor
        self.sigma = number("blur", sigma, 0.1, 1000)
        self.text = f"blur:{self.sigma:g}"

    def shape(self, shape: Shape) -> Shape:
        self.register_buffer("along", matrix(shape[1], 1, gaussian(self.sigma)), persistent=False)
        return shape

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return filtered(outputs, self.along)


class Grey(Observation):
    """The brightness alone, one channel: the weights of ITU-R BT.601, as in Pillow's mode L."""

    text = "grey"

    def shape(self, shape: Shape) -> Shape:
        if shape[0] == 1:
            raise ProjectionError(
                "grey has no effect here: what it is applied to has one channel already; leave it out"
            )
        return 1, *shape[1:]

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return mixed(as_rgb(outputs), [(0.299, 0.587, 0.114)])

    def composed(self, targets: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor | None:
        """The colours of the outputs with the brightness of the targets."""
        return (outputs + targets - self(outputs)).clamp(-1, 1)


class Jpeg(Observation):
    """What a JPEG file keeps; see `jpeg.jpeg`.

    Args:
        quality: from 1 to 100, as Pillow's.
    """

    def __init__(self, quality: str):
        super().__init__()
        self.luma: torch.Tensor
        self.chroma: torch.Tensor
        self.basis: torch.Tensor
        self.quality = whole("jpeg", quality, 1, 100)
        self.text = f"jpeg:{self.quality}"
        for name, value in zip(("luma", "chroma", "basis"), (*tables(self.quality), cosines())):
            self.register_buffer(name, value)

    def shape(self, shape: Shape) -> Shape:
        return (1 if shape[0] == 1 else 3), *shape[1:]

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        x = outputs if outputs.shape[1] == 1 else as_rgb(outputs)
        return jpeg(x, self.luma, self.chroma, self.basis)


class Noise(Observation):
    """Normal noise. A target gets one noise and outputs another, each from its own fixed seed and the same for every row.

    An output without noise would be pulled towards making noise, since feature distances tell smooth from noisy pictures. The
    noise of the outputs differs from that of the targets, which no output could know.

    Args:
        sigma: its standard deviation, as a share of the range from black to white, or of a sound's whole range.
    """

    media = ("picture", "sound")

    def __init__(self, sigma: str):
        super().__init__()
        self.of_outputs: torch.Tensor
        self.of_targets: torch.Tensor
        self.sigma = number("noise", sigma, 0, 1)
        self.text = f"noise:{self.sigma:g}"

    def shape(self, shape: Shape) -> Shape:
        for name, seed in (("of_outputs", 1), ("of_targets", 2)):
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * (2 * self.sigma)
            self.register_buffer(name, drawn, persistent=False)
        return shape

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs + self.of_outputs

    def degrade(self, targets: torch.Tensor) -> torch.Tensor:
        return (targets + self.of_targets).clamp(-1, 1)


class Chain(Observation):
    """Several observations, one after the other."""

    def __init__(self, parts: Sequence[Observation]):
        super().__init__()
        self.chain = torch.nn.ModuleList(parts)
        self.text = ",".join(part.text for part in parts)

    @property
    def parts(self) -> Sequence[Observation]:
        return [part for part in self.chain if isinstance(part, Observation)]

    def shape(self, shape: Shape) -> Shape:
        for part in self.parts:
            shape = part.shape(shape)
        return shape

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            outputs = part(outputs)
        return outputs

    def degrade(self, targets: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            targets = part.degrade(targets)
        return targets

    def accept(self, targets: torch.Tensor) -> torch.Tensor:
        for i, part in enumerate(self.parts):
            if isinstance(part, Mask) and not all(isinstance(later, Mask) for later in self.parts[i:]):
                raise ProjectionError(
                    f"the targets are observed already, and the mask in {self.text!r} is not the last; what is hidden can "
                    "only be left out there, so name the mask last"
                )
        for part in self.parts:
            targets = part.accept(targets)
        return targets

    def known(self) -> torch.Tensor | None:
        masks = [mask for part in self.parts if (mask := part.known()) is not None]
        return torch.stack(masks).all(dim=0) if len(masks) == len(self.parts) else None


OBSERVATIONS: dict[str, type[Any]] = {
    "mask": Mask,
    "downsample": Downsample,
    "grey": Grey,
    "jpeg": Jpeg,
    "noise": Noise,
    "blur": Blur,
}
"""The observations by name; their arguments are texts."""

FORMS = "mask:FILE, downsample:FACTOR[:KERNEL], grey, jpeg:QUALITY, noise:SIGMA, blur:SIGMA"
_MOST = {"mask": 1, "downsample": 2, "grey": 0}  # arguments; the others take one


def parse(observe: Any) -> Observation | None:
    """An observation from a text such as "blur:2,downsample:4", a function, a list of these, or an `Observation`; None for none.

    Raises:
        ProjectionError: a text cannot be understood.
        ImageFileError: a mask cannot be read.
    """
    if observe is None or isinstance(observe, Observation):
        return observe
    if isinstance(observe, (list, tuple)) and observe:
        parts = [part for one in map(parse, observe) if one is not None for part in one.parts]
    elif isinstance(observe, str):
        names = "|".join(OBSERVATIONS)  # the name of a mask's file may have commas
        parts = [_one(text) for text in re.split(rf",(?=(?:{names})(?:[:,]|$))", observe)]
    elif callable(observe):
        return Function(observe)
    else:
        raise ProjectionError(
            f"observe is a {type(observe).__name__}; expected a text such as 'downsample:4', or a function"
        )
    return parts[0] if len(parts) == 1 else Chain(parts)


def _one(text: str) -> Observation:
    name, colon, rest = text.strip().partition(":")
    if name not in OBSERVATIONS:
        raise ProjectionError(
            f"observation {printable(repr(text), 80)} is unknown; expected {FORMS}{meant(name, OBSERVATIONS)}"
        )
    given = ([os.path.expanduser(rest)] if name == "mask" else rest.split(":")) if colon else []
    fewest, most = (name != "grey"), _MOST.get(name, 1)
    if not fewest <= len(given) <= most:
        raise ProjectionError(f"observation {printable(repr(text), 80)} has {len(given)} values; expected {FORMS}")
    return OBSERVATIONS[name](*given)


def number(name: str, text: str, low: float, high: float) -> float:
    """The value of an observation from its text.

    Raises:
        ProjectionError: it is no number from ``low`` to ``high``.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ProjectionError(
            f"{name} has the value {printable(repr(text), 80)}; expected a number from {low:g} to {high:g}"
        )
    return value


def whole(name: str, text: str, low: int, high: int) -> int:
    """As `number`, for whole numbers."""
    value = number(name, text, low, high)
    if value != int(value):
        raise ProjectionError(f"{name} has the value {printable(repr(text), 80)}; expected a whole number")
    return int(value)
