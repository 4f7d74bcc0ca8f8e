"""ProGAN's generator and discriminator, which grow from 4x4 on during training, at any state of their growth.

Karras, Aila, Laine & Lehtinen, "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018),
table 2 and section 4; and the official networks.py, `G_paper` and `D_paper`.

These modules have no equalised learning rate (section 4.1). Official code multiplies a weight by a factor whenever it
is used; here weights do not change, so the reader of the file multiplies them once, which gives the same float32
numbers.
"""

from typing import Any

import torch
import torch.nn.functional as F

from ..ops import native, normalize_2nd_moment
from .dcgan import DenseMap
from .discriminators import MinibatchStdLayer
from .layers import check_shape

SLOPE = 0.2  # of the leaky ReLU
MAX_RESOLUTION = 4096


def widen(kernel: torch.Tensor) -> torch.Tensor:
    """The 4x4 kernel with which a convolution of stride 2 does the work of a 3x3 kernel and of resampling by 2.

    It is the sum of the kernel (a, b, 3, 3) moved by 0 or 1 pixel along each axis, (a, b, 4, 4). A transposed
    convolution of stride 2 with it equals doubling the side by repeating pixels, and then correlating with the 3x3
    kernel turned by 180 degrees. A convolution of stride 2 with a quarter of it equals convolving with the 3x3 kernel,
    and then averaging squares of 2x2 pixels.
    """
    a, b, height, width = kernel.shape
    if kernel.is_meta:  # sums there would import sympy, which takes most of a second
        return torch.empty([a, b, height + 1, width + 1], device="meta")
    wide = kernel.new_zeros([a, b, height + 1, width + 1])
    for y in (0, 1):
        for x in (0, 1):
            wide[:, :, y : y + height, x : x + width] += kernel
    return wide


class _Growing(torch.nn.Module):
    """What both networks have: sizes, and the state of growth."""

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
        native.made_network(img_resolution)
        self.img_channels = img_channels
        self.c_dim = c_dim
        self.max_lod = img_resolution.bit_length() - 3
        self.resolutions = [2**k for k in range(2, img_resolution.bit_length())]
        self._others = {**others, "fmap_base": fmap_base, "fmap_decay": fmap_decay, "fmap_max": fmap_max}
        # Number of feature maps at 4x4, 8x8, and so on. The number at 2x2 is that of vectors.
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
        """The arguments for a network of this form with the present ``lod``."""
        sizes = {"img_resolution": self.img_resolution, "img_channels": self.img_channels, "c_dim": self.c_dim}
        return {**sizes, **self._others, "lod": self.lod}

    @property
    def lod(self) -> float:
        """The level of detail: how many doublings of the resolution are missing until the full one. It may be set.

        It is 0 for the whole network and ``max_lod`` for the one at 4x4. Between integers a resolution is being faded
        in: at 0.3, a part of 0.3 of the picture is still that of half the resolution.
        """
        return self._lod

    @lod.setter
    def lod(self, value: float) -> None:
        if not 0 <= value <= self.max_lod:
            raise ValueError(f"lod is {value}; expected a number from 0 to {self.max_lod}")
        self._lod = float(value)

    def _growth(self) -> tuple[int, float]:
        """The integer part and the fraction of ``lod``."""
        return int(self._lod), self._lod - int(self._lod)


class GeneratorBlock(torch.nn.Module):
    """One resolution, from (N, in, R/2, R/2) to (N, out, R, R); at 4x4 from (N, in, 4, 4).

    Args:
        in_channels: of the maps that it takes.
        out_channels: of the maps that it gives.
        img_channels: of the picture.
        doubles: True for a block with ``conv0``, a transposed convolution that doubles the side, see `widen`.
        slope: of the leaky ReLU.
        eps: of the pixel norm; None for no pixel norm.
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
        img_resolution: side of the picture, a power of two from 4 to 4096.
        img_channels: its channels.
        z_dim: size of z; None takes min(fmap_base, fmap_max).
        c_dim: size of the label, which is appended to z; 0 for none.
        fmap_base: a layer of the resolution 2^(k + 1) has min(fmap_base / 2^(k fmap_decay), fmap_max) feature maps.
        fmap_decay: see ``fmap_base``.
        fmap_max: see ``fmap_base``.
        normalize_latents: True to divide z, with the label, by its root mean square.
        use_pixelnorm: True to divide each pixel by its root mean square after each activation.
        pixelnorm_epsilon: the constant under both roots.
        use_leakyrelu: True for leaky ReLU, False for ReLU.
        lod: the level of detail, see `lod`.

    Layers are named ``dense``, ``b4.conv1``, ``b8.conv0`` (which doubles the side), ``b8.conv1``, and so on. Their
    output is taken after the bias and before the activation. ``b4.torgb`` and the like make the pictures, and are not
    in ``layer_shapes``.
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
        others: dict[str, Any] = dict(
            normalize_latents=normalize_latents, use_pixelnorm=use_pixelnorm, use_leakyrelu=use_leakyrelu
        )
        others["pixelnorm_epsilon"] = pixelnorm_epsilon
        super().__init__(img_resolution, img_channels, c_dim, fmap_base, fmap_decay, fmap_max, lod, **others)
        self.z_dim = self.channels[2] if z_dim is None else z_dim
        self._others["z_dim"] = self.z_dim
        self.normalize_latents = normalize_latents
        self.pixelnorm_epsilon = pixelnorm_epsilon
        self.dense = DenseMap(self.z_dim + c_dim, self.channels[4], 4, bias=True)
        slope, eps = SLOPE if use_leakyrelu else 0.0, pixelnorm_epsilon if use_pixelnorm else None
        self.b4: GeneratorBlock
        for r in self.resolutions:
            in_channels, out_channels = self.channels[max(r // 2, 4)], self.channels[r]
            block = GeneratorBlock(in_channels, out_channels, img_channels, r > 4, slope, eps)
            self.add_module(f"b{r}", block)

    @property
    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Names and output shapes (C, H, W) of the layers at the present ``lod``, in the order of computation."""
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
            c: labels (N, c_dim); needed if c_dim is not 0.

        With a ``lod`` above 0 smaller pictures are enlarged to R by repeating pixels.
        """
        check_shape("z", z, [None, self.z_dim])
        x = z.to(torch.float32)
        if self.c_dim > 0:
            if c is None:
                raise ValueError(
                    f"this network has {self.c_dim} classes and got no label; give c, one-hot, of shape "
                    f"(N, {self.c_dim})"
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
            img = img.lerp(repeat(smaller, 2), fade)
        return repeat(img, 2**lod)


def repeat(img: torch.Tensor, factor: int) -> torch.Tensor:
    """Each pixel as a square of factor x factor."""
    return img if factor == 1 else F.interpolate(img, scale_factor=factor, mode="nearest")


def average(img: torch.Tensor, factor: int) -> torch.Tensor:
    """The mean of each square of factor x factor pixels."""
    return img if factor == 1 else F.avg_pool2d(img, factor)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution, from (N, in, R, R) to (N, out, R/2, R/2).

    Args:
        in_channels: of the maps that it takes.
        out_channels: of the maps that it gives.
        img_channels: of the picture.
        fused_scale: True if ``conv1`` is a 4x4 convolution of stride 2, see `widen`. Otherwise it is a 3x3 convolution,
            and squares of 2x2 pixels are averaged after the activation, which does not give the same.
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
        return x if self.fused_scale else average(x, 2)


class DiscriminatorEpilogue(torch.nn.Module):
    """The last part, from (N, in, 4, 4) to features. ``out`` makes the score and the c_dim logits of classes from them."""

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
    """ProGAN's discriminator. With classes it also says what class a picture has; the score does not use the label.

    Args:
        img_resolution: as in `Generator`.
        img_channels: as in `Generator`.
        c_dim: number of classes, 0 for none.
        fmap_base: as in `Generator`.
        fmap_decay: as in `Generator`.
        fmap_max: as in `Generator`.
        mbstd_group_size: pictures in a group of the minibatch standard deviation (section 3), which is one more feature
            map at 4x4; 0 or 1 for none. A smaller batch is one group.
        fused_scale: how the resolution is halved, see `DiscriminatorBlock`.
        lod: as in `Generator`.
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
        others = dict(mbstd_group_size=mbstd_group_size, fused_scale=fused_scale)
        super().__init__(img_resolution, img_channels, c_dim, fmap_base, fmap_decay, fmap_max, lod, **others)
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
        """True if the features of a picture depend on the other pictures of its batch."""
        return self.b4.mbstd is not None

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """The input of the last layer for pictures (N, img_channels, R, R) in [-1, 1]; (N, num_features), float32."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        lod, fade = self._growth()
        resolution = self.img_resolution >> lod
        img = average(img.to(torch.float32), 2**lod)
        x = self._from_picture(img, resolution)
        for r in reversed(self.resolutions[1 : self.max_lod - lod + 1]):
            x = getattr(self, f"b{r}")(x)
            if r == resolution and fade:
                x = x.lerp(self._from_picture(average(img, 2), r // 2), fade)
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
