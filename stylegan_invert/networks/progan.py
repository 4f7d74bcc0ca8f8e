"""ProGAN: generator and discriminator that were grown from 4x4 on, at any state of their growth.

Karras, Aila, Laine & Lehtinen, "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018), table 2
and section 4; official networks.py, `G_paper` and `D_paper`.

The equalised learning rate (section 4.1) is no part of these modules: weights are frozen here, so the reader multiplies
them once by what official code multiplies them with at every step, and the product is the same float32 number.
"""

from typing import Any

import torch
import torch.nn.functional as F

from ..ops import normalize_2nd_moment
from .dcgan import DenseMap
from .discriminators import MinibatchStdLayer
from .layers import check_shape

SLOPE = 0.2  # of the leaky ReLU
MAX_RESOLUTION = 4096


def widen(kernel: torch.Tensor) -> torch.Tensor:
    """The 4x4 kernel that stands for a 3x3 one together with a doubling, or a halving, of the side.

    Sums of the kernel and of the kernel moved by one pixel along each axis and both: (a, b, 3, 3) to (a, b, 4, 4). For a
    transposed convolution of stride 2 with it, nearest-neighbour doubling came first and the 3x3 kernel, turned by 180
    degrees, was correlated with the result. For a convolution of stride 2 with a quarter of it, the means of 2x2 pixels
    are taken last.
    """
    a, b, height, width = kernel.shape
    wide = kernel.new_zeros([a, b, height + 1, width + 1])
    for y in (0, 1):
        for x in (0, 1):
            wide[:, :, y : y + height, x : x + width] += kernel
    return wide


class _Growing(torch.nn.Module):
    """Sizes and the state of growth, the same for both networks."""

    family = "progan"

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        c_dim: int,
        fmap_base: float,
        fmap_decay: float,
        fmap_max: int,
        lod: float,
        **others: Any,
    ):
        if not 4 <= img_resolution <= MAX_RESOLUTION or img_resolution & (img_resolution - 1):
            raise ValueError(
                f"img_resolution is {img_resolution}; expected a power of two from 4 to {MAX_RESOLUTION}, as ProGAN has"
            )
        super().__init__()
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.c_dim = c_dim
        self.max_lod = img_resolution.bit_length() - 3
        self.resolutions = [2**k for k in range(2, img_resolution.bit_length())]
        self._others = {**others, "fmap_base": fmap_base, "fmap_decay": fmap_decay, "fmap_max": fmap_max}
        # Feature maps at 2x2 (those of vectors), 4x4, 8x8, ...
        self.channels = {
            2 ** (k + 1): min(int(fmap_base / 2.0 ** (k * fmap_decay)), fmap_max)
            for k in range(img_resolution.bit_length() - 1)
        }
        if min(self.channels.values()) < 1:
            raise ValueError(
                f"fmap_base {fmap_base:g}, fmap_decay {fmap_decay:g} and fmap_max {fmap_max} leave a layer without maps"
            )
        self.lod = lod

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Arguments that build a network of this form, and of its present ``lod``."""
        sizes = {"img_resolution": self.img_resolution, "img_channels": self.img_channels, "c_dim": self.c_dim}
        return {**sizes, **self._others, "lod": self.lod}

    @property
    def lod(self) -> float:
        """The state of growth: how often the side must be doubled from the present resolution to the full one.

        0 is the whole network, ``max_lod`` that at 4x4. Between whole numbers a resolution is being faded in: at 0.3, 0.3 of
        the picture is still that of half the resolution. May be set.
        """
        return self._lod

    @lod.setter
    def lod(self, value: float) -> None:
        if not 0 <= value <= self.max_lod:
            raise ValueError(f"lod is {value}; expected a number from 0 to {self.max_lod}")
        self._lod = float(value)

    def _growth(self) -> tuple[int, float]:
        """The whole and the fractional part of ``lod``."""
        return int(self._lod), self._lod - int(self._lod)


class GeneratorBlock(torch.nn.Module):
    """One resolution: (N, in, R/2, R/2) to (N, out, R, R); at 4x4 from (N, in, 4, 4).

    Args:
        in_channels, out_channels, img_channels: of the maps that come, that go, and of the picture.
        doubles: whether ``conv0`` is there: a 4x4 transposed convolution, see `widen`. ``conv1`` always is.
        slope: of the activation. eps: of the pixel norm, None for none.
    """

    def __init__(
        self, in_channels: int, out_channels: int, img_channels: int, doubles: bool, slope: float, eps: float | None
    ):
        super().__init__()
        self.slope, self.eps = slope, eps
        self.conv0 = torch.nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1) if doubles else None
        self.conv1 = torch.nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.torgb = torch.nn.Conv2d(out_channels, img_channels, 1)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Leaky ReLU and pixel norm (section 4.2) of maps (N, C, H, W)."""
        x = F.leaky_relu(x, self.slope)
        return x if self.eps is None else normalize_2nd_moment(x, eps=self.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.conv0 is not None:
            x = self.activate(self.conv0(x))
        return self.activate(self.conv1(x))


class Generator(_Growing):
    """ProGAN's generator, a `LatentGenerator`.

    Args:
        img_resolution: side of the picture, a power of two from 4 to 4096. img_channels: its channels.
        z_dim: size of z; None takes the feature maps of vectors, min(fmap_base, fmap_max).
        c_dim: size of the label, which is appended to z; 0 for none.
        fmap_base, fmap_decay, fmap_max: there are min(fmap_base / 2^(k fmap_decay), fmap_max) feature maps at the
            resolution 2^(k + 1).
        normalize_latents: divide z, with the label, by its root mean square first.
        use_pixelnorm, pixelnorm_epsilon: whether feature vectors are normalised after each activation, and the constant
            under both roots.
        use_leakyrelu: leaky ReLU, else ReLU.
        lod: the state of growth, see `lod`.

    Layers are named ``dense``, ``b4.conv1``, ``b8.conv0`` (which doubles the side), ``b8.conv1``, ...; the output of each is
    that after the bias and before the activation. ``b4.torgb``, ... make pictures of 4x4, ... maps; after the last no network
    is left, so they are none of ``layer_shapes``.
    """

    z_prior = "normal"
    dense_layer = "dense"
    assumed = ""  # the files say everything

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        z_dim: int | None = None,
        c_dim: int = 0,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        normalize_latents: bool = True,
        use_pixelnorm: bool = True,
        pixelnorm_epsilon: float = 1e-8,
        use_leakyrelu: bool = True,
        lod: float = 0.0,
    ):
        super().__init__(
            img_resolution, img_channels, c_dim, fmap_base, fmap_decay, fmap_max, lod, normalize_latents=normalize_latents,
            use_pixelnorm=use_pixelnorm, pixelnorm_epsilon=pixelnorm_epsilon, use_leakyrelu=use_leakyrelu,
        )  # fmt: skip
        self.z_dim = self.channels[2] if z_dim is None else z_dim
        self._others["z_dim"] = self.z_dim
        self.normalize_latents = normalize_latents
        self.pixelnorm_epsilon = pixelnorm_epsilon
        self.dense = DenseMap(self.z_dim + c_dim, self.channels[4], 4, bias=True)
        slope, eps = SLOPE if use_leakyrelu else 0.0, pixelnorm_epsilon if use_pixelnorm else None
        for r in self.resolutions:
            in_channels, out_channels = self.channels[max(r // 2, 4)], self.channels[r]
            block = GeneratorBlock(in_channels, out_channels, img_channels, r > 4, slope, eps)
            self.add_module(f"b{r}", block)

    @property
    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Name to output shape (C, H, W) of the layers that are computed at the present ``lod``, in order."""
        shapes = {"dense": (self.channels[4], 4, 4)}
        for r in self.resolutions:
            if r <= self.img_resolution >> int(self.lod):
                names = ("conv0", "conv1") if r > 4 else ("conv1",)
                shapes.update({f"b{r}.{name}": (self.channels[r], r, r) for name in names})
        return shapes

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Pictures (N, img_channels, R, R), float32, nominally in [-1, 1] and not clamped.

        Args:
            z: latents (N, z_dim) from N(0, I).
            c: labels (N, c_dim); needed when c_dim is not 0.

        At a ``lod`` above 0 they are enlarged to R by repeating pixels.
        """
        check_shape("z", z, [None, self.z_dim])
        x = z.to(torch.float32)
        if self.c_dim > 0:
            if c is None:
                raise ValueError(
                    f"this network has {self.c_dim} classes and got no label; give c of shape (N, {self.c_dim}), one-hot"
                )
            check_shape("c", c, [len(z), self.c_dim])
            x = torch.cat([x, c.to(torch.float32)], dim=1)
        if self.normalize_latents:
            x = normalize_2nd_moment(x, eps=self.pixelnorm_epsilon)
        x = self.b4.activate(self.dense(x))
        lod, fade = self._growth()
        resolution = self.img_resolution >> lod
        smaller = None
        for r in self.resolutions:
            if r > resolution:
                break
            if r == resolution and fade:
                smaller = getattr(self, f"b{r // 2}").torgb(x)
            x = getattr(self, f"b{r}")(x)
        img = getattr(self, f"b{resolution}").torgb(x)
        if smaller is not None:
            img = img.lerp(_repeat(smaller, 2), fade)
        return _repeat(img, 2**lod)


def _repeat(img: torch.Tensor, factor: int) -> torch.Tensor:
    """Each pixel as a square of factor x factor."""
    return img if factor == 1 else F.interpolate(img, scale_factor=factor, mode="nearest")


def _average(img: torch.Tensor, factor: int) -> torch.Tensor:
    """The mean of each square of factor x factor pixels."""
    return img if factor == 1 else F.avg_pool2d(img, factor)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution: (N, in, R, R) to (N, out, R/2, R/2).

    Args:
        in_channels, out_channels, img_channels: of the maps that come, that go, and of the picture.
        fused_scale: ``conv1`` is a 4x4 convolution of stride 2, see `widen`; else a 3x3 one, and pixels are averaged after
            the activation, which is another function.
    """

    def __init__(self, in_channels: int, out_channels: int, img_channels: int, fused_scale: bool):
        super().__init__()
        self.fused_scale = fused_scale
        self.fromrgb = torch.nn.Conv2d(img_channels, in_channels, 1)
        self.conv0 = torch.nn.Conv2d(in_channels, in_channels, 3, padding=1)
        kernel, stride = (4, 2) if fused_scale else (3, 1)
        self.conv1 = torch.nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.conv0(x), SLOPE)
        x = F.leaky_relu(self.conv1(x), SLOPE)
        return x if self.fused_scale else _average(x, 2)


class DiscriminatorEpilogue(torch.nn.Module):
    """The 4x4 end: (N, in, 4, 4) to features (N, features); ``out`` makes a score and c_dim label logits of them."""

    def __init__(self, in_channels: int, num_features: int, img_channels: int, c_dim: int, mbstd_group_size: int):
        super().__init__()
        self.fromrgb = torch.nn.Conv2d(img_channels, in_channels, 1)
        self.mbstd = MinibatchStdLayer(mbstd_group_size) if mbstd_group_size > 1 else None
        self.conv = torch.nn.Conv2d(in_channels + (self.mbstd is not None), in_channels, 3, padding=1)
        self.fc = torch.nn.Linear(in_channels * 16, num_features)
        self.out = torch.nn.Linear(num_features, 1 + c_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mbstd is not None:
            x = self.mbstd(x)
        x = F.leaky_relu(self.conv(x), SLOPE)
        return F.leaky_relu(self.fc(x.flatten(1)), SLOPE)


class Discriminator(_Growing):
    """ProGAN's discriminator; with classes it is an auxiliary classifier: it names the class, and the score does not read it.

    Args:
        img_resolution, img_channels, fmap_base, fmap_decay, fmap_max, lod: as in `Generator`.
        c_dim: number of label logits, 0 for none.
        mbstd_group_size: pictures per group of the minibatch standard deviation (section 3), which is one further feature map
            at 4x4; at most 1 for none. A smaller batch is one group.
        fused_scale: how the side is halved, see `DiscriminatorBlock`.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        c_dim: int = 0,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        mbstd_group_size: int = 4,
        fused_scale: bool = True,
        lod: float = 0.0,
    ):
        super().__init__(
            img_resolution, img_channels, c_dim, fmap_base, fmap_decay, fmap_max, lod, mbstd_group_size=mbstd_group_size,
            fused_scale=fused_scale,
        )  # fmt: skip
        for r in reversed(self.resolutions[1:]):
            self.add_module(
                f"b{r}", DiscriminatorBlock(self.channels[r], self.channels[r // 2], img_channels, fused_scale)
            )
        self.b4 = DiscriminatorEpilogue(self.channels[4], self.channels[2], img_channels, c_dim, mbstd_group_size)

    @property
    def num_features(self) -> int:
        """Size of `features`."""
        return self.channels[2]

    @property
    def compares_batch(self) -> bool:
        """Whether a picture's features depend on the others of its batch."""
        return self.b4.mbstd is not None

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """What the last layer reads of pictures (N, img_channels, R, R) in [-1, 1]: (N, num_features), float32."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        lod, fade = self._growth()
        resolution = self.img_resolution >> lod
        img = _average(img.to(torch.float32), 2**lod)
        x = self._from_picture(img, resolution)
        for r in reversed(self.resolutions[1 : self.max_lod - lod + 1]):
            x = getattr(self, f"b{r}")(x)
            if r == resolution and fade:
                x = x.lerp(self._from_picture(_average(img, 2), r // 2), fade)
        return self.b4(x)

    def _from_picture(self, img: torch.Tensor, resolution: int) -> torch.Tensor:
        return F.leaky_relu(getattr(self, f"b{resolution}").fromrgb(img), SLOPE)

    def score(self, features: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, 1) from `features`, of any range (the critic of a Wasserstein GAN). ``c`` is not read."""
        return self.b4.out(features)[:, :1]

    def label_logits(self, img: torch.Tensor) -> torch.Tensor:
        """How much pictures look like those of each class, logits (N, c_dim)."""
        return self.b4.out(self.features(img))[:, 1:]

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Judge pictures (N, img_channels, R, R) in [-1, 1]: scores (N, 1), higher is more real. ``c`` is not read."""
        return self.score(self.features(img), c)
