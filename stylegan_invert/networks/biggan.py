"""BigGAN and BigGAN-deep: class-conditional generators from z to pictures, and their projection discriminators.

Brock, Donahue & Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (2019), appendix B; attention
after Zhang et al., "Self-Attention Generative Adversarial Networks" (2019), as released code has it; the discriminators'
output after Miyato & Koyama, "cGANs with Projection Discriminator" (2018), equation 3. The networks compute what those of
BigGAN-PyTorch and of pytorch-pretrained-BigGAN do in evaluation mode. Spectral normalisation divides a weight by a number
that no longer changes then, so the weights here are those after it (`io/biggan.py` divides).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from .dcgan import DenseMap
from .layers import check_shape

GAINS = ("multiply", "add")
OUTPUT_EPS = 1e-5  # of the last normalisation of BigGAN-PyTorch, whatever its --BN_eps says


class Statistics(torch.nn.Module):
    """Stored means and variances of batch normalisation, one row (channels,) per truncation.

    With several rows, the first is for truncation 0 and the last for 1. Between two rows the nearer one gets the smaller
    weight: pytorch-pretrained-BigGAN has it so, and it is kept for the same pictures. Truncations that lie on a row have it alone.
    """

    def __init__(self, num_stats: int, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros([num_stats, channels]))
        self.register_buffer("var", torch.ones([num_stats, channels]))

    def at(self, truncation: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and 1 / deviation (channels,) for a truncation from 0 to 1."""
        last = len(self.mean) - 1
        if last == 0:
            return self.mean[0], (self.var[0] + self.eps).rsqrt()
        fraction, row = math.modf(truncation / (1 / last))  # in this form, so that rounding falls on the same row
        row = int(row)
        mean, var = self.mean[row], self.var[row]
        if fraction != 0:
            after = min(row + 1, last)
            mean = mean * fraction + self.mean[after] * (1 - fraction)
            var = var * fraction + self.var[after] * (1 - fraction)
        return mean, (var + self.eps).rsqrt()


class ConditionalNorm(Statistics):
    """Batch normalisation whose gain, 1 + ..., and bias are linear in a condition; (N, C, H, W) to the same.

    Args:
        channels, eps, num_stats: of the statistics.
        condition: size of the condition.
        gain: "multiply" as it should be, or "add": see `BigGAN`.
    """

    def __init__(self, channels: int, condition: int, eps: float, num_stats: int = 1, gain: str = "multiply"):
        super().__init__(num_stats, channels, eps)
        self.gain = torch.nn.Linear(condition, channels, bias=False)
        self.bias = torch.nn.Linear(condition, channels, bias=False)
        self.mode = gain

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        mean, scale = self.at(truncation)
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        scale, bias = (scale * gain, bias) if self.mode == "multiply" else (scale.expand_as(gain), bias + gain)
        return _affine(x, scale, bias - mean * scale)


class Norm(Statistics):
    """Batch normalisation with a gain and a bias per channel; arguments as for `ConditionalNorm`."""

    def __init__(self, channels: int, eps: float, num_stats: int = 1, gain: str = "multiply"):
        super().__init__(num_stats, channels, eps)
        self.gain = torch.nn.Parameter(torch.ones([channels]))
        self.bias = torch.nn.Parameter(torch.zeros([channels]))
        self.mode = gain

    def forward(self, x: torch.Tensor, truncation: float) -> torch.Tensor:
        mean, scale = self.at(truncation)
        scale, bias = (scale * self.gain, self.bias) if self.mode == "multiply" else (scale, self.bias + self.gain)
        return _affine(x, scale[None], (bias - mean * scale)[None])


def _affine(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])


def _double(x: torch.Tensor) -> torch.Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")


class Attention(torch.nn.Module):
    """Self-attention: every place looks at all places of the map at half its side. (N, C, H, W) to the same."""

    def __init__(self, channels: int):
        if channels < 8:
            raise ValueError(f"attention of {channels} channels; it needs at least 8")
        super().__init__()
        self.theta = torch.nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = torch.nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = torch.nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = torch.nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = torch.nn.Parameter(torch.zeros([]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.theta(x).flatten(2)  # (N, C / 8, H W)
        key = max_pool2d(self.phi(x), 2).flatten(2)  # (N, C / 8, H W / 4)
        value = max_pool2d(self.g(x), 2).flatten(2)  # (N, C / 2, H W / 4)
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=2)
        found = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.o(found)


class GeneratorBlock(torch.nn.Module):
    """A residual block of BigGAN, which doubles the side: (N, in, H, W) to (N, out, 2 H, 2 W)."""

    def __init__(self, in_channels: int, out_channels: int, **norm: Any):
        super().__init__()
        self.bn1 = ConditionalNorm(in_channels, **norm)
        self.conv1 = torch.nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn2 = ConditionalNorm(out_channels, **norm)
        self.conv2 = torch.nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_sc = torch.nn.Conv2d(in_channels, out_channels, 1)

    def shapes(self, side: int) -> dict[str, tuple[int, int, int]]:
        """Of the convolutions' outputs, for maps of a side that come in."""
        out = self.conv1.out_channels
        return {
            "conv1": (out, 2 * side, 2 * side),
            "conv2": (out, 2 * side, 2 * side),
            "conv_sc": (out, side, side),
        }

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        h = self.conv1(_double(torch.relu(self.bn1(x, condition, truncation))))
        h = self.conv2(torch.relu(self.bn2(h, condition, truncation)))
        # Equal pixels stay equal in a 1x1 convolution: doubling after it is the same, at a quarter of the cost.
        return h + _double(self.conv_sc(x))


class DeepGeneratorBlock(torch.nn.Module):
    """A residual block of BigGAN-deep: a bottleneck of a quarter of the channels, and a path that drops channels.

    (N, in, H, W) to (N, out, H, W), or twice the side with ``upsample``; out is at most in.
    """

    def __init__(self, in_channels: int, out_channels: int, upsample: bool, **norm: Any):
        if not 4 <= in_channels >= out_channels:
            raise ValueError(f"a block from {in_channels} to {out_channels} channels; it needs 4, and cannot add any")
        super().__init__()
        hidden = in_channels // 4
        self.out_channels, self.upsample = out_channels, upsample
        self.bn1 = ConditionalNorm(in_channels, **norm)
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 1)
        self.bn2 = ConditionalNorm(hidden, **norm)
        self.conv2 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.bn3 = ConditionalNorm(hidden, **norm)
        self.conv3 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.bn4 = ConditionalNorm(hidden, **norm)
        self.conv4 = torch.nn.Conv2d(hidden, out_channels, 1)

    def shapes(self, side: int) -> dict[str, tuple[int, int, int]]:
        """Of the convolutions' outputs, for maps of a side that come in."""
        hidden, out = self.conv1.out_channels, 2 * side if self.upsample else side
        return {
            "conv1": (hidden, side, side),
            "conv2": (hidden, out, out),
            "conv3": (hidden, out, out),
            "conv4": (self.out_channels, out, out),
        }

    def forward(self, x: torch.Tensor, condition: torch.Tensor, truncation: float) -> torch.Tensor:
        h = self.conv1(torch.relu(self.bn1(x, condition, truncation)))
        h = torch.relu(self.bn2(h, condition, truncation))
        x = x[:, : self.out_channels]
        if self.upsample:
            h, x = _double(h), _double(x)
        h = self.conv3(torch.relu(self.bn3(self.conv2(h), condition, truncation)))
        return self.conv4(torch.relu(self.bn4(h, condition, truncation))) + x


class _Generator(torch.nn.Module):
    """What the two generators share: everything but their blocks and what these are told."""

    z_prior = "normal"
    truncates_z = True
    dense_layer = "linear"

    def __init__(
        self, z_dim: int, c_dim: int, shared_dim: int, channels: Sequence[int], attention: Sequence[int], bottom_width: int,
        img_channels: int, blocks: Sequence[torch.nn.Module], in_features: int, norm: Norm, truncation: float,
    ):  # fmt: skip
        super().__init__()
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
        for i, block in enumerate(blocks):
            inner = block.shapes(side)
            side = max(height for _, height, _ in inner.values())
            self.layer_shapes |= {f"blocks.{i}.{name}": shape for name, shape in inner.items()}
            self.layer_shapes[f"blocks.{i}"] = (channels[i + 1], side, side)
            if str(i) in self.attention:
                self.layer_shapes[f"attention.{i}"] = (channels[i + 1], side, side)
        self.layer_shapes["output"] = (img_channels, side, side)
        self.img_resolution = side

        eps = blocks[0].bn1.eps
        self.assumed = f"ReLU, batch normalisation with eps {eps:g}" if self.num_stats == 1 else ""
        if norm.mode == "add":
            self.assumed += ", whose gain is added as official code does with statistics of several GPUs"

    @property
    def truncation(self) -> float:
        """From 0 to 1: which stored statistics normalise. It does not touch z, which the caller draws accordingly."""
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
        """The constructor's arguments, plain values; with `state_dict` all there is to know of the network."""
        return {**self._arguments, "truncation": self.truncation}

    def _inputs(self, z: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z and what stands for the class (N, shared_dim, or c_dim without embedding), checked."""
        check_shape("z", z, [None, self.z_dim])
        check_shape("c", c, [len(z), self.c_dim], "One row of class weights per picture, one-hot or soft.")
        c = c.to(torch.float32)
        return z.to(torch.float32), self.shared(c) if hasattr(self, "shared") else c

    def _render(self, dense: torch.Tensor, conditions: Sequence[torch.Tensor]) -> torch.Tensor:
        x = self.linear(dense)
        for i, (block, condition) in enumerate(zip(self.blocks, conditions)):
            x = block(x, condition, self.truncation)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.tanh(self.output(torch.relu(self.bn(x, self.truncation))))


class BigGAN(_Generator):
    """The generator of BigGAN, and those of SA-GAN and SN-GAN in the same code.

    Args:
        z_dim: size of z. c_dim: number of classes.
        shared_dim: size of the class embedding that all blocks share; 0 for none: every block then has its own gain and
            bias for each class, and ``hier`` must be False.
        channels: of the map that z gives, then of each block's output.
        attention: numbers of the blocks after which there is attention; those have at least 8 channels.
        bottom_width: side of the first map; each block doubles it.
        img_channels: of the pictures.
        hier: z is cut into one chunk for the first map and one for every block.
        bn_eps: of the blocks' normalisations; that of the last is 1e-5.
        gain: "multiply", the batch normalisation of the paper, or "add": normalised maps + gain + bias, which is what
            BigGAN-PyTorch's --cross_replica normalisation computes in evaluation mode (its sync_batchnorm/batchnorm.py).
        truncation: 1, see `_Generator.truncation`.

    Called with z (N, z_dim) from N(0, 1) and c (N, c_dim), one-hot or soft, it gives pictures (N, img_channels, R, R) in [-1, 1],
    float32. Layers are named ``linear``, ``blocks.0.conv1``, ..., ``blocks.0``, ``attention.3`` (after block 3), ``output``.
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
    ):
        slots = len(channels) if hier else 1
        if z_dim % slots or (hier and not shared_dim):
            raise ValueError(f"z of {z_dim} entries cannot be cut into {slots} chunks that blocks read with a class")
        chunk = z_dim // slots
        norm = {"condition": shared_dim + chunk * hier if shared_dim else c_dim, "eps": bn_eps, "gain": gain}
        blocks = [GeneratorBlock(i, o, **norm) for i, o in zip(channels, channels[1:])]
        super().__init__(
            z_dim, c_dim, shared_dim, channels, attention, bottom_width, img_channels, blocks, chunk,
            Norm(channels[-1], OUTPUT_EPS, gain=gain), truncation,
        )  # fmt: skip
        self.hier = hier
        self._arguments = dict(
            z_dim=z_dim, c_dim=c_dim, shared_dim=shared_dim, channels=list(channels), attention=list(attention),
            bottom_width=bottom_width, img_channels=img_channels, hier=hier, bn_eps=bn_eps, gain=gain,
        )  # fmt: skip

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        z, y = self._inputs(z, c)
        if not self.hier:
            return self._render(z, [y] * len(self.blocks))
        first, *chunks = z.chunk(len(self.blocks) + 1, dim=1)
        return self._render(first, [torch.cat([y, chunk], dim=1) for chunk in chunks])


class BigGANDeep(_Generator):
    """The generator of BigGAN-deep, of BigGAN-PyTorch and of pytorch-pretrained-BigGAN.

    Args:
        upsample: for each block, whether it doubles the side.
        num_stats: rows of the stored statistics: 1, or several, for truncations from 0 to 1 in equal steps.
        output_eps: of the last normalisation.
        truncation: from 0 to 1; also an attribute that can be set. Statistics of one row are for truncation 1.

    The other arguments, inputs, output and names are those of `BigGAN`. Every block, and the first map, reads the class
    embedding and all of z, in this order.
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
    ):
        norm = {"condition": shared_dim + z_dim, "eps": bn_eps, "num_stats": num_stats, "gain": gain}
        blocks = [DeepGeneratorBlock(i, o, up, **norm) for i, o, up in zip(channels, channels[1:], upsample)]
        super().__init__(
            z_dim, c_dim, shared_dim, channels, attention, bottom_width, img_channels, blocks, shared_dim + z_dim,
            Norm(channels[-1], output_eps, num_stats, gain), truncation,
        )  # fmt: skip
        self._arguments = dict(
            z_dim=z_dim, c_dim=c_dim, shared_dim=shared_dim, channels=list(channels), upsample=list(upsample),
            attention=list(attention), bottom_width=bottom_width, img_channels=img_channels, bn_eps=bn_eps,
            output_eps=output_eps, gain=gain, num_stats=num_stats,
        )  # fmt: skip

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        z, y = self._inputs(z, c)
        condition = torch.cat([y, z], dim=1)
        return self._render(condition, [condition] * len(self.blocks))


class DiscriminatorBlock(torch.nn.Module):
    """A residual block of BigGAN's discriminator: (N, in, H, W) to (N, out, H, W), or half the side with ``down``.

    ``first``: the block that reads the picture has no activation in front.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, down: bool, first: bool):
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(hidden, out_channels, 3, padding=1)
        if down or in_channels != out_channels:
            self.conv_sc = torch.nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv2(torch.relu(self.conv1(x if self.first else torch.relu(x))))
        if self.down:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        # Where official code has the 1x1 convolution before the average, this is the same: both are linear.
        return h + (self.conv_sc(x) if hasattr(self, "conv_sc") else x)


class DeepDiscriminatorBlock(torch.nn.Module):
    """A residual block of BigGAN-deep's discriminator: a bottleneck, and a path to which channels are added."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, down: bool):
        super().__init__()
        self.down = down
        self.conv1 = torch.nn.Conv2d(in_channels, hidden, 1)
        self.conv2 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = torch.nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv4 = torch.nn.Conv2d(hidden, out_channels, 1)
        if in_channels != out_channels:
            self.conv_sc = torch.nn.Conv2d(in_channels, out_channels - in_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        h = torch.relu(self.conv3(torch.relu(h)))
        if self.down:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        if hasattr(self, "conv_sc"):
            x = torch.cat([x, self.conv_sc(x)], dim=1)
        return self.conv4(h) + x


class Discriminator(torch.nn.Module):
    """The projection discriminator of BigGAN or BigGAN-deep: the logit of a picture and its class.

    Args:
        c_dim: number of classes. img_resolution, img_channels: of the pictures.
        blocks: for each block, [in channels, hidden channels, out channels, whether it halves the side].
        attention: numbers of the blocks after which there is attention.
        deep: blocks of BigGAN-deep, behind a convolution of the picture.

    Called with pictures (N, img_channels, R, R) in [-1, 1] and c (N, c_dim), one-hot or soft, it gives (N, 1), float32.
    """

    family = "biggan"

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        blocks: Sequence[Sequence[int | bool]],
        attention: Sequence[int] = (),
        deep: bool = False,
    ):
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.num_features = blocks[-1][2]
        self.init_kwargs: Mapping[str, Any] = dict(
            c_dim=c_dim, img_resolution=img_resolution, img_channels=img_channels,
            blocks=[list(block) for block in blocks], attention=list(attention), deep=deep,
        )  # fmt: skip
        if deep:
            self.input_conv = torch.nn.Conv2d(img_channels, blocks[0][0], 3, padding=1)
        self.blocks = torch.nn.ModuleList(
            DeepDiscriminatorBlock(*block) if deep else DiscriminatorBlock(*block, first=i == 0)
            for i, block in enumerate(blocks)
        )
        self.attention = torch.nn.ModuleDict({str(i): Attention(blocks[i][2]) for i in sorted(attention)})
        self.linear = torch.nn.Linear(self.num_features, 1)
        self.embed = torch.nn.Linear(c_dim, self.num_features, bias=False)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """What the logit is linear in: (N, num_features), summed over places."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        x = img.to(torch.float32)
        if hasattr(self, "input_conv"):
            x = self.input_conv(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.relu(x).sum(dim=[2, 3])

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        check_shape("c", c, [len(img), self.c_dim], "One row of class weights per picture, one-hot or soft.")
        x = self.features(img)
        return self.linear(x) + (self.embed(c.to(torch.float32)) * x).sum(dim=1, keepdim=True)
