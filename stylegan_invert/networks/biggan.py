"""BigGAN and BigGAN-deep: class-conditional generators from z to pictures, and their projection discriminators.

Brock, Donahue & Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (2019), appendix B.
Attention is that of the code released with Zhang et al., "Self-Attention Generative Adversarial Networks" (2019). The
output of the discriminators is that of Miyato & Koyama, "cGANs with Projection Discriminator" (2018), equation 3. The
networks compute what those of BigGAN-PyTorch and of pytorch-pretrained-BigGAN compute in evaluation mode. Spectral
normalisation then divides each weight by a constant; the reader of the file does that once, and the weights here are
the results.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, batch_norm, interpolate, max_pool2d

from ..ops import native
from .dcgan import DenseMap
from .layers import RecordedModule, check_shape

GAINS = ("multiply", "add")
ACTIVATIONS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "relu": lambda x, slope: torch.relu(x),
    "leaky_relu": lambda x, slope: torch.nn.functional.leaky_relu(x, slope),
    "elu": lambda x, slope: torch.nn.functional.elu(x, slope),
    "selu": lambda x, slope: torch.nn.functional.selu(x),
    "gelu": lambda x, slope: torch.nn.functional.gelu(x),
    "silu": lambda x, slope: torch.nn.functional.silu(x),
}
"""Activations of (x, slope), where the slope of ``leaky_relu`` is that for negative numbers, and that of ``elu`` its
alpha."""
SLOPE = 0.2
OUTPUT_EPS = 1e-5  # of the last normalisation in BigGAN-PyTorch, which does not depend on its --BN_eps


class Activation(torch.nn.Module):
    """One of `ACTIVATIONS`.

    Raises:
        ValueError: there is none of this name, or the slope is no number.
    """

    def __init__(self, name: str, slope: float):
        if name not in ACTIVATIONS:
            raise ValueError(f"the activation is {name!r}; expected one of {', '.join(ACTIVATIONS)}")
        if not isinstance(slope, (int, float)) or not -100 <= slope <= 100:
            raise ValueError(f"the slope of the activation is {slope!r}; expected a number from -100 to 100")
        super().__init__()
        self.name, self.slope = name, float(slope)

    @property
    def in_words(self) -> str:
        named = {"relu": "ReLU"}.get(self.name, self.name)
        return f"{named} with slope {self.slope:g}" if self.name in ("leaky_relu", "elu") else named

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ACTIVATIONS[self.name](x, self.slope)


class Statistics(torch.nn.Module):
    """Stored means and variances of batch normalisation, one row (channels,) per truncation.

    With several rows, the first is for truncation 0 and the last for truncation 1. A truncation that falls exactly on a
    row uses that row. Between two rows they are blended, and the nearer row gets the smaller weight. That looks like a
    mistake in pytorch-pretrained-BigGAN, and is kept here so that pictures are the same.

    A network that is to be trained has a ``momentum``. In training mode its maps are normalised by the mean and variance of
    their batch, and the stored ones, of a single row, move towards these by this share.
    """

    momentum: float | None = None

    def __init__(self, num_stats: int, channels: int, eps: float):
        super().__init__()
        self.mean: torch.Tensor
        self.var: torch.Tensor
        self.eps = eps
        self.register_buffer("mean", torch.zeros([num_stats, channels]))
        self.register_buffer("var", torch.ones([num_stats, channels]))

    @property
    def learns(self) -> bool:
        """True if maps are normalised by their own statistics."""
        return self.training and self.momentum is not None

    def of_batch(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) normalised by their own statistics, towards which the stored ones move."""
        return batch_norm(x, self.mean[0], self.var[0], training=True, momentum=self.momentum or 0.0, eps=self.eps)

    def at(self, truncation: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and 1 / deviation (channels,) for a truncation from 0 to 1."""
        last = len(self.mean) - 1
        if last == 0:
            return self.mean[0], (self.var[0] + self.eps).rsqrt()
        fraction, row = math.modf(
            truncation / (1 / last)
        )  # computed in this form, rounding gives the same row as there
        row = int(row)
        mean, var = self.mean[row], self.var[row]
        if fraction != 0:
            after = min(row + 1, last)
            mean = mean * fraction + self.mean[after] * (1 - fraction)
            var = var * fraction + self.var[after] * (1 - fraction)
        return mean, (var + self.eps).rsqrt()


class ConditionalNorm(Statistics):
    """Batch normalisation of (N, C, H, W), whose bias, and gain less 1, are linear functions of a condition.

    Args:
        channels: C.
        condition: size of the condition.
        eps: added to the variance.
        num_stats: number of rows of the statistics.
        gain: "multiply", or "add" for the mistake of official code that `BigGAN` describes.
    """

    def __init__(self, channels: int, condition: int, eps: float, num_stats: int = 1, gain: str = "multiply"):
        super().__init__(num_stats, channels, eps)
        self.gain = torch.nn.Linear(condition, channels, bias=False)
        self.bias = torch.nn.Linear(condition, channels, bias=False)
        self.mode = gain

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        if self.learns:
            return _affine(self.of_batch(x), gain, bias)
        mean, scale = self.at(truncation)
        scale, bias = (scale * gain, bias) if self.mode == "multiply" else (scale.expand_as(gain), bias + gain)
        return _affine(x, scale, bias - mean * scale)


class Norm(Statistics):
    """Batch normalisation with a gain and a bias per channel. Its arguments are those of `ConditionalNorm`."""

    def __init__(self, channels: int, eps: float, num_stats: int = 1, gain: str = "multiply"):
        super().__init__(num_stats, channels, eps)
        self.gain = torch.nn.Parameter(torch.ones([channels]))
        self.bias = torch.nn.Parameter(torch.zeros([channels]))
        self.mode = gain

    def forward(self, x: torch.Tensor, truncation: float) -> torch.Tensor:
        if self.learns:
            return _affine(self.of_batch(x), self.gain[None], self.bias[None])
        mean, scale = self.at(truncation)
        scale, bias = (scale * self.gain, self.bias) if self.mode == "multiply" else (scale, self.bias + self.gain)
        return _affine(x, scale[None], (bias - mean * scale)[None])


def _affine(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])


def _double(x: torch.Tensor) -> torch.Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")


class Attention(torch.nn.Module):
    """Self-attention of (N, C, H, W): every pixel attends to all pixels of the map at half its resolution."""

    def __init__(self, channels: int):
        if channels < 8:
            raise ValueError(f"attention of {channels} channels; it needs at least 8")
        super().__init__()
        self.theta = torch.nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = torch.nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = torch.nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = torch.nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = torch.nn.Parameter(torch.zeros([]))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """The attention map (N, H W, H W / 4) of an input (N, C, H, W).

        Row i says how much pixel i attends to each pixel of the map at half its resolution; every row sums to one.
        """
        query = self.theta(x).flatten(2)  # (N, C / 8, H W)
        key = max_pool2d(self.phi(x), 2).flatten(2)  # (N, C / 8, H W / 4)
        return torch.softmax(query.transpose(1, 2) @ key, dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = max_pool2d(self.g(x), 2).flatten(2)  # (N, C / 2, H W / 4)
        attended = (value @ self.weights(x).transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.o(attended)


class GeneratorBlock(torch.nn.Module):
    """A residual block of BigGAN, which doubles the resolution, from (N, in, H, W) to (N, out, 2 H, 2 W)."""

    def __init__(self, in_channels: int, out_channels: int, act: "Activation", **norm: Any):
        super().__init__()
        self.act = act
        self.bn1 = ConditionalNorm(in_channels, **norm)
        self.conv1 = torch.nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn2 = ConditionalNorm(out_channels, **norm)
        self.conv2 = torch.nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_sc = torch.nn.Conv2d(in_channels, out_channels, 1)

    def shapes(self, side: int) -> dict[str, tuple[int, int, int]]:
        """Names and shapes (C, H, W) of the convolutions' outputs for an input of this side."""
        out = self.conv1.out_channels
        return {
            "conv1": (out, 2 * side, 2 * side),
            "conv2": (out, 2 * side, 2 * side),
            "conv_sc": (out, side, side),
        }

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        h = self.conv1(_double(self.act(self.bn1(x, condition, truncation))))
        h = self.conv2(self.act(self.bn2(h, condition, truncation)))
        # A 1x1 convolution keeps equal pixels equal, so doubling after it gives the same, and costs a quarter.
        return h + _double(self.conv_sc(x))


class DeepGeneratorBlock(torch.nn.Module):
    """A residual block of BigGAN-deep, from (N, in, H, W) to (N, out, H, W), or to twice the side with ``upsample``.

    One path is a bottleneck with a quarter of the channels. The other drops the channels that are too many; out is at
    most in.
    """

    def __init__(self, in_channels: int, out_channels: int, upsample: bool, act: "Activation", **norm: Any):
        if not 4 <= in_channels >= out_channels:
            raise ValueError(f"a block from {in_channels} to {out_channels} channels; it needs 4, and cannot add any")
        super().__init__()
        hidden = in_channels // 4
        self.out_channels, self.upsample, self.act = out_channels, upsample, act
        self.bn1 = ConditionalNorm(in_channels, **norm)
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 1)
        self.bn2 = ConditionalNorm(hidden, **norm)
        self.conv2 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.bn3 = ConditionalNorm(hidden, **norm)
        self.conv3 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.bn4 = ConditionalNorm(hidden, **norm)
        self.conv4 = torch.nn.Conv2d(hidden, out_channels, 1)

    def shapes(self, side: int) -> dict[str, tuple[int, int, int]]:
        """Names and shapes (C, H, W) of the convolutions' outputs for an input of this side."""
        hidden, out = self.conv1.out_channels, 2 * side if self.upsample else side
        return {
            "conv1": (hidden, side, side),
            "conv2": (hidden, out, out),
            "conv3": (hidden, out, out),
            "conv4": (self.out_channels, out, out),
        }

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        h = self.conv1(self.act(self.bn1(x, condition, truncation)))
        h = self.act(self.bn2(h, condition, truncation))
        x = x[:, : self.out_channels]
        if self.upsample:
            h, x = _double(h), _double(x)
        h = self.conv3(self.act(self.bn3(self.conv2(h), condition, truncation)))
        return self.conv4(self.act(self.bn4(h, condition, truncation))) + x


class _Generator(RecordedModule):
    """What both generators have in common, which is everything except their blocks and the conditions of these."""

    z_prior = "normal"
    truncates_z = True
    tuning_schedule = "progressive"  # see projectors.tuning
    dense_layer = "linear"

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        shared_dim: int,
        channels: Sequence[int],
        attention: Sequence[int],
        bottom_width: int,
        img_channels: int,
        blocks: Sequence[GeneratorBlock | DeepGeneratorBlock],
        in_features: int,
        norm: Norm,
        truncation: float,
        act: Activation,
    ):
        super().__init__()
        self.act = act
        self.z_dim, self.c_dim, self.img_channels = z_dim, c_dim, img_channels
        self.num_stats = len(norm.mean)
        self.truncation = truncation
        if shared_dim:
            self.shared = torch.nn.Linear(c_dim, shared_dim, bias=False)
        self.linear = DenseMap(in_features, channels[0], bottom_width, bias=True)
        self.blocks = torch.nn.ModuleList(blocks)
        self.attention = torch.nn.ModuleDict({str(i): Attention(channels[i + 1]) for i in sorted(attention)})
        self.bn = norm
        self.output = torch.nn.Conv2d(channels[-1], img_channels, 3, padding=1)

        side = bottom_width
        self.layer_shapes: dict[str, tuple[int, int, int]] = {"linear": (channels[0], side, side)}
        if "-1" in self.attention:
            self.layer_shapes["attention.-1"] = (channels[0], side, side)
        for i, block in enumerate(blocks):
            inner = block.shapes(side)
            side = max(height for _, height, _ in inner.values())
            self.layer_shapes |= {f"blocks.{i}.{name}": shape for name, shape in inner.items()}
            self.layer_shapes[f"blocks.{i}"] = (channels[i + 1], side, side)
            if str(i) in self.attention:
                self.layer_shapes[f"attention.{i}"] = (channels[i + 1], side, side)
        self.layer_shapes["output"] = (img_channels, side, side)
        self.attention_shapes = {
            name: (height, width, height // 2, width // 2)
            for name, (_, height, width) in self.layer_shapes.items()
            if name.startswith("attention.")
        }
        self.img_resolution = side
        native.made_network(side)

        eps = blocks[0].bn1.eps
        self.assumed = f"{act.in_words}, batch normalisation with eps {eps:g}" if self.num_stats == 1 else ""
        if norm.mode == "add":
            self.assumed += ", whose gain is added as official code does with statistics of several GPUs"

    @property
    def truncation(self) -> float:
        """The truncation, from 0 to 1, whose stored statistics are used. The caller draws z for the same truncation."""
        return self._truncation

    @truncation.setter
    def truncation(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"truncation is {value!r}; expected a number from 0 to 1")
        if self.num_stats == 1 and value != 1:
            raise ValueError(f"truncation is {value:g}; this network has statistics for 1 alone, so shrink z instead")
        self._truncation = float(value)

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain values.

        With the ``state_dict()`` they describe the whole network.
        """
        return {**super().init_kwargs, "truncation": self.truncation}

    def _inputs(self, z: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z and the embedding of the class (N, shared_dim), or in a network without embedding its weights (N, c_dim)."""
        check_shape("z", z, [None, self.z_dim])
        check_shape("c", c, [len(z), self.c_dim], "One row of class weights per picture, one-hot or soft.")
        c = c.to(torch.float32)
        return z.to(torch.float32), self.shared(c) if hasattr(self, "shared") else c

    def _render(self, dense: torch.Tensor, conditions: Sequence[torch.Tensor]) -> torch.Tensor:
        x = self.linear(dense)
        x = self.attention["-1"](x) if "-1" in self.attention else x
        for i, (block, condition) in enumerate(zip(self.blocks, conditions)):
            x = block(x, condition, self.truncation)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.tanh(self.output(self.act(self.bn(x, self.truncation))))


class BigGAN(_Generator):
    """The generator of BigGAN, and those of SA-GAN and SN-GAN in the same code.

    Args:
        z_dim: size of z.
        c_dim: number of classes.
        shared_dim: size of the class embedding that all blocks share; 0 for none. Every block then has its own gain and
            bias for each class, and ``hier`` must be False.
        channels: of the first map, then of the output of each block.
        attention: numbers of the blocks that attention comes after, or -1 for before the first; the map there has at
            least 8 channels.
        bottom_width: side of the first map; each block doubles it.
        img_channels: of the pictures.
        hier: True to cut z into one chunk for the first map and one for every block.
        bn_eps: of the blocks' normalisations; that of the last is 1e-5.
        gain: "multiply" for the batch normalisation of the paper. "add" for normalised maps + gain + bias, which
            BigGAN-PyTorch computes in evaluation mode for networks trained with --cross_replica (its
            sync_batchnorm/batchnorm.py).
        truncation: 1, because there is one row of statistics.
        activation: a key of `ACTIVATIONS`.
        slope: of "leaky_relu" or "elu".

    It is called with z (N, z_dim) from N(0, 1) and c (N, c_dim), which may be soft labels, and gives pictures (N,
    img_channels, R, R) in [-1, 1], float32. Layers are named ``linear``, ``blocks.0.conv1``, ..., ``blocks.0``,
    ``attention.3`` (after block 3), ``output``.
    """

    family = "biggan"

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        shared_dim: int,
        channels: Sequence[int],
        attention: Sequence[int] = (),
        bottom_width: int = 4,
        img_channels: int = 3,
        hier: bool = True,
        bn_eps: float = 1e-5,
        gain: str = "multiply",
        truncation: float = 1.0,
        activation: str = "relu",
        slope: float = SLOPE,
    ):
        slots = len(channels) if hier else 1
        if z_dim % slots or (hier and not shared_dim):
            raise ValueError(f"z of {z_dim} entries cannot be cut into {slots} chunks that blocks read with a class")
        chunk = z_dim // slots
        norm = {"condition": shared_dim + chunk * hier if shared_dim else c_dim, "eps": bn_eps, "gain": gain}
        act = Activation(activation, slope)
        blocks = [GeneratorBlock(i, o, act, **norm) for i, o in zip(channels, channels[1:])]
        last = Norm(channels[-1], OUTPUT_EPS, gain=gain)
        sizes = (z_dim, c_dim, shared_dim, channels, attention, bottom_width, img_channels)
        super().__init__(*sizes, blocks, chunk, last, truncation, act)
        self.hier = hier

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        z, y = self._inputs(z, c)
        if not self.hier:
            return self._render(z, [y] * len(self.blocks))
        first, *chunks = z.chunk(len(self.blocks) + 1, dim=1)
        return self._render(first, [torch.cat([y, chunk], dim=1) for chunk in chunks])


class BigGANDeep(_Generator):
    """The generator of BigGAN-deep, of BigGAN-PyTorch and of pytorch-pretrained-BigGAN.

    Args:
        z_dim: as in `BigGAN`, like all arguments that are not named here.
        upsample: for each block, True if it doubles the resolution.
        output_eps: of the last normalisation.
        num_stats: number of rows of the stored statistics: 1, or several, for truncations from 0 to 1 in equal steps.
        truncation: from 0 to 1; also an attribute that can be set. With one row of statistics it must be 1.

    Inputs, output and names of layers are those of `BigGAN`. The first map and every block take the class embedding and
    all of z, in this order.
    """

    family = "biggan-deep"

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        shared_dim: int,
        channels: Sequence[int],
        upsample: Sequence[bool],
        attention: Sequence[int] = (),
        bottom_width: int = 4,
        img_channels: int = 3,
        bn_eps: float = 1e-5,
        output_eps: float = OUTPUT_EPS,
        gain: str = "multiply",
        num_stats: int = 1,
        truncation: float = 1.0,
        activation: str = "relu",
        slope: float = SLOPE,
    ):
        act = Activation(activation, slope)
        norm = {"condition": shared_dim + z_dim, "eps": bn_eps, "num_stats": num_stats, "gain": gain}
        blocks = [DeepGeneratorBlock(i, o, up, act, **norm) for i, o, up in zip(channels, channels[1:], upsample)]
        last = Norm(channels[-1], output_eps, num_stats, gain)
        sizes = (z_dim, c_dim, shared_dim, channels, attention, bottom_width, img_channels)
        super().__init__(*sizes, blocks, shared_dim + z_dim, last, truncation, act)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        z, y = self._inputs(z, c)
        condition = torch.cat([y, z], dim=1)
        return self._render(condition, [condition] * len(self.blocks))


class DiscriminatorBlock(torch.nn.Module):
    """A residual block of BigGAN's discriminator, from (N, in, H, W) to (N, out, H, W), or to half that with ``down``.

    With ``first``, in the block that takes the picture, there is no activation before the first convolution.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, down: bool, act: Activation, first: bool):
        super().__init__()
        self.act = act
        self.down, self.first = down, first
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(hidden, out_channels, 3, padding=1)
        if down or in_channels != out_channels:
            self.conv_sc = torch.nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Official code has a ReLU here whatever its activation is.
        h = self.conv2(self.act(self.conv1(x if self.first else torch.relu(x))))
        if self.down:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        # Official code may take the average after this 1x1 convolution, which gives the same, because both are linear.
        return h + (self.conv_sc(x) if hasattr(self, "conv_sc") else x)


class DeepDiscriminatorBlock(torch.nn.Module):
    """A residual block of BigGAN-deep's discriminator, from (N, in, H, W) to (N, out, H, W), or to half that.

    One path is a bottleneck. The other adds the channels that are missing.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, down: bool, act: Activation):
        super().__init__()
        self.down, self.act = down, act
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 1)
        self.conv2 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv4 = torch.nn.Conv2d(hidden, out_channels, 1)
        if in_channels != out_channels:
            self.conv_sc = torch.nn.Conv2d(in_channels, out_channels - in_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv2(self.act(self.conv1(torch.relu(x))))  # official code has a ReLU here whatever its activation is
        h = self.act(self.conv3(self.act(h)))
        if self.down:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        if hasattr(self, "conv_sc"):
            x = torch.cat([x, self.conv_sc(x)], dim=1)
        return self.conv4(h) + x


class Discriminator(RecordedModule):
    """The projection discriminator of BigGAN or BigGAN-deep, which gives the logit of a picture and its class.

    Args:
        c_dim: number of classes.
        img_resolution: side of the pictures.
        img_channels: their channels.
        blocks: for each block, [in channels, hidden channels, out channels, True if it halves the resolution].
        attention: numbers of the blocks that attention comes after.
        deep: True for blocks of BigGAN-deep, with a convolution of the picture before the first.
        activation: a key of `ACTIVATIONS`.
        slope: of "leaky_relu" or "elu".

    It is called with pictures (N, img_channels, R, R) in [-1, 1] and c (N, c_dim), which may be soft labels, and gives
    (N, 1), float32.
    """

    family = "biggan"
    compares_batch = False

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        blocks: Sequence[Sequence[int | bool]],
        attention: Sequence[int] = (),
        deep: bool = False,
        activation: str = "relu",
        slope: float = SLOPE,
    ):
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        channels, self.side = blocks[-1][2], img_resolution >> sum(bool(block[3]) for block in blocks)
        self.num_features = channels * self.side**2
        self.act = Activation(activation, slope)
        if deep:
            self.input_conv = torch.nn.Conv2d(img_channels, blocks[0][0], 3, padding=1)
        self.blocks = torch.nn.ModuleList(
            DeepDiscriminatorBlock(before, hidden, after, bool(halves), self.act)
            if deep
            else DiscriminatorBlock(before, hidden, after, bool(halves), self.act, first=i == 0)
            for i, (before, hidden, after, halves) in enumerate(blocks)
        )
        self.attention = torch.nn.ModuleDict({str(i): Attention(blocks[i][2]) for i in sorted(attention)})
        self.linear = torch.nn.Linear(channels, 1)
        self.embed = torch.nn.Linear(c_dim, channels, bias=False)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """The last map of pictures, (N, num_features). The logit is a linear function of its sums over pixels."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        x = img.to(torch.float32)
        if hasattr(self, "input_conv"):
            x = self.input_conv(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return self.act(x).flatten(1)

    def score(self, features: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Logits (N, 1) from `features` and labels (N, c_dim)."""
        check_shape("c", c, [len(features), self.c_dim], "One row of class weights per picture, one-hot or soft.")
        x = features.unflatten(1, (-1, self.side**2)).sum(dim=2)
        return self.linear(x) + (self.embed(c.to(torch.float32)) * x).sum(dim=1, keepdim=True)

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.score(self.features(img), c)
