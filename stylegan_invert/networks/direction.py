"""Discriminators that also find the latent of a picture, and the spherical coordinates that they need.

Cho, "Inverting generator of GAN through direction embedding discriminator". A latent vector is taken for the angles of
a point on the unit sphere. The outputs of the discriminator are a vector: its direction is that of the point, and tells
the latent; the logarithm of its length is what the discriminator says of the picture.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

from ..ops import normalize_2nd_moment
from .discriminators import Discriminator
from .layers import FullyConnectedLayer, RecordedModule, check_shape, widest_dtype

CLAMP = 1e-6  # between latents and angles, in both ways, probabilities are limited to [CLAMP, 1 - CLAMP]
_TINY = 1e-18  # the least value of a coordinate, whose square is still a normal float32 number


def spherical_to_cartesian(angles: torch.Tensor) -> torch.Tensor:
    """The point on the unit sphere with given angles, computed by a binary tree of ceil(log2 n) levels.

    The tree has n leaves, one for each coordinate. Node k has the children 2k + 1 and 2k + 2, and the leaves are the
    nodes n - 1 to 2n - 2 in this order. The value of the root is one. The value of a first child is that of its parent
    times the sine of the parent's angle, that of a second child has the cosine. If n is a power of two, this is the
    tree of Cho, section 3.

    Args:
        angles: (N, n - 1), floating, in [0, pi / 2].

    Returns:
        (N, n), of the dtype of ``angles``, not negative, of length one.
    """
    n = angles.shape[1] + 1
    level = angles.new_ones([len(angles), 1])  # values of the nodes first, first + 1, ...
    first, leaves = 0, []
    while True:
        inner = max(0, min(n - 1 - first, level.shape[1]))
        if inner < level.shape[1]:
            leaves.append(level[:, inner:])
        if inner == 0:
            return torch.cat(leaves, dim=1)
        a = angles[:, first : first + inner]
        parents, first = level[:, :inner, None], first + level.shape[1]
        level = (parents * torch.stack([a.sin(), a.cos()], dim=2)).flatten(1)


def cartesian_to_spherical(x: torch.Tensor) -> torch.Tensor:
    """The angles of a direction, the inverse of `spherical_to_cartesian`.

    Args:
        x: (N, n), floating, not negative; any length.

    Returns:
        (N, n - 1), of the dtype of ``x``, in [0, pi / 2]. Coordinates below 1e-18 of the length count as 1e-18, so that
        values and gradients stay finite where a coordinate is zero.

    Source: Cho, algorithm 3.
    """
    n = x.shape[1]
    x = (x / x.detach().amax(dim=1, keepdim=True).clamp_min(1e-30)).clamp_min(_TINY)
    last = 2 * n - 2  # number of the last node; values are computed from the lowest level up to the root
    angles: list[torch.Tensor] = []
    below = x[:, :0]
    for depth in reversed(range(last.bit_length())):
        first, end = 2**depth - 1, min(2 ** (depth + 1) - 2, last)
        inner = below.shape[1] // 2
        pairs = below.reshape(len(x), inner, 2)
        angles.insert(0, torch.atan2(pairs[:, :, 0], pairs[:, :, 1]))
        length = torch.hypot(pairs[:, :, 0], pairs[:, :, 1])
        below = torch.cat([length, x[:, first + inner - (n - 1) : end + 1 - (n - 1)]], dim=1)
    return torch.cat(angles, dim=1)


def latent_weights(z_dim: int) -> torch.Tensor:
    """How much each entry of z moves the point on the sphere, (z_dim,), float32, with a mean square of one.

    An angle at depth k of the tree turns only the coordinates below its node, whose squares sum to 2^-k on average. So
    the first entry turns the whole point, and each of the last entries very little of it.
    """
    depth = torch.arange(1, z_dim + 1).log2().floor()
    weights = 2 ** (-depth / 2)
    return weights / weights.square().mean().sqrt()


def z_to_angles(z: torch.Tensor, normalize: bool = True, prior: str = "normal") -> torch.Tensor:
    """The angles (pi / 2) F(z) of latents, which are uniform in (0, pi / 2) if z is from the prior, and F its distribution.

    Args:
        z: (N, d).
        normalize: divide z by its root mean square first, as official mapping networks do.
        prior: "normal" for N(0, 1), or "uniform" for U(-1, 1).
    """
    z = normalize_2nd_moment(z) if normalize else z
    share = torch.special.ndtr(z) if prior == "normal" else (z + 1) / 2
    return share.clamp(CLAMP, 1 - CLAMP) * (math.pi / 2)


def angles_to_z(angles: torch.Tensor, prior: str = "normal") -> torch.Tensor:
    """Latents (N, d) from angles in [0, pi / 2], the inverse of `z_to_angles` without its normalisation."""
    share = (angles * (2 / math.pi)).clamp(CLAMP, 1 - CLAMP)
    return torch.special.ndtri(share) if prior == "normal" else share * 2 - 1


def nearest_normalized(z: torch.Tensor) -> torch.Tensor:
    """The latents (N, d) of root mean square one whose points on the sphere lie closest to those of ``z``, (N, d).

    A discriminator that is uncertain about an entry of z finds it closer to zero than it was, so z becomes too short.
    Dividing z by its root mean square would also magnify the entries that were found well. Instead the entries that
    move the point least are made longer: with a_k = `latent_weights`, the sum of a_k^2 (x_k - z_k)^2 is least, among x
    with a mean square of 1, for x_k = z_k a_k^2 / (a_k^2 - t), and t is found by bisection. Returns float32; gradients
    do not pass.
    """
    with torch.no_grad():
        dtype = widest_dtype(z.device)
        squares = latent_weights(z.shape[1]).to(dtype).to(z.device).square()
        x = z.to(dtype)
        x = torch.where(x.abs() < 1e-6, torch.where(x < 0, -1e-6, 1e-6), x)  # no factor makes zero longer
        low = torch.full([len(x), 1], -1e6, dtype=dtype, device=z.device)
        high = squares.min().expand_as(low)
        for _ in range(100):
            t = (low + high) / 2
            long = (x * squares / (squares - t)).square().mean(dim=1, keepdim=True) > 1
            low, high = torch.where(long, low, t), torch.where(long, t, high)
        return normalize_2nd_moment((x * squares / (squares - low)).to(torch.float32))


def embedding_loss(direction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The tangent of the angles between unit vectors (N, n) without negative coordinates, (N,).

    It is computed as |e - (e.z) z| / (e.z), which equals tan(arccos(e.z)) of Cho, algorithm 1, line 7, and has no
    infinite slope at zero.
    """
    along = (direction * target).sum(dim=1, keepdim=True)
    across = (direction - along * target).square().sum(dim=1)
    return (across + 1e-12).sqrt() / along[:, 0].clamp_min(1e-6)


def angle_degrees(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angles between vectors (N, n) in degrees, (N,). Small angles are exact too."""
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))


class Trunk(Protocol):
    """What a discriminator must have so that `DirectionDiscriminator` can build on it.

    Attributes:
        c_dim: number of classes, 0 for none.
        num_features: size of ``features``.
        compares_batch: True if the features of a picture depend on the other pictures of its batch.
    """

    c_dim: int

    @property
    def num_features(self) -> int: ...

    @property
    def compares_batch(self) -> bool: ...

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """(N, num_features) from pictures."""

    def score(self, features: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        """Logits (N, 1) from features and labels."""


class Embedding(NamedTuple):
    """What the discriminator says of pictures.

    Attributes:
        direction: (N, n), unit vectors without negative coordinates, which point to the latents on the sphere.
        v: (N, 1), the logarithm of the outputs' length, which is low for real pictures and high for generated ones.
        features: (N, F), the input of the last layer.
    """

    direction: torch.Tensor
    v: torch.Tensor
    features: torch.Tensor


def _bias_of_outputs(n: int) -> float:
    """The bias with which n outputs, after softplus, are a vector of length one."""
    return math.log(math.expm1(n**-0.5))


class DirectionDiscriminator(RecordedModule):
    """A discriminator with n = z_dim + 1 positive outputs in place of its one.

    Args:
        trunk: the discriminator, see `Trunk`. It must not compare the pictures of a batch.
        z_dim: size of the latents.
        normalize_z: True if the generator divides z by its root mean square, as official generators do. The angles are
            then those of the divided z. The paper's own sampling is False.
        z_prior: the distribution of z, "normal" or "uniform" (from -1 to 1).

    In a network without classes the trunk's own output is not used here. Training keeps it near ``-v``, so that the
    trunk alone is a usual discriminator. In a network with classes it is the part of the logit that depends on the
    class.

    Attributes:
        judges: True if the head gives the logit, or a part of it.
    """

    judges = True

    def __init__(self, trunk: Trunk, z_dim: int, normalize_z: bool = True, z_prior: str = "normal"):
        if trunk.compares_batch:
            raise ValueError(
                "the discriminator compares the pictures of a batch (mbstd_num_channels is not 0), and an embedding "
                "must depend on one picture alone; build it with epilogue_kwargs=dict(mbstd_num_channels=0)"
            )
        super().__init__()
        self.trunk = trunk
        self.z_dim = z_dim
        self.normalize_z = normalize_z
        self.z_prior = z_prior
        # The bias makes v about zero at the start, so that neither network begins with an advantage. One random row is
        # added to the weights of all outputs, which makes v depend on the features as a single output does. Without it
        # the n rows average out in v, and the adversarial loss has hardly any effect beside the embedding loss, which
        # does not depend on that row.
        n = z_dim + 1
        self.outputs = FullyConnectedLayer(trunk.num_features, n, bias_init=_bias_of_outputs(n))
        with torch.no_grad():
            self.outputs.weight.add_(torch.randn([1, trunk.num_features]))

    def embed(self, img: torch.Tensor) -> Embedding:
        """The embedding of pictures (N, img_channels, R, R) in [-1, 1]."""
        return self._embedding(self.trunk.features(img))

    def _embedding(self, features: torch.Tensor) -> Embedding:
        """The embedding from the input of the last layer, (N, F)."""
        e = F.softplus(self.outputs(features)).clamp_min(1e-30)
        # The largest entry is divided out before squaring, because squares of small numbers would become zero.
        scale = e.detach().amax(dim=1, keepdim=True)
        length = (e / scale).norm(dim=1, keepdim=True)
        return Embedding(e / scale / length, scale.log() + length.log(), features)

    def logits(self, embedding: Embedding, c: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, 1), higher for more real pictures: -v, and in a network with classes the trunk's logit."""
        if self.trunk.c_dim == 0:
            return -embedding.v
        return self.trunk.score(embedding.features, c) - embedding.v

    def forward(
        self, img: torch.Tensor, c: torch.Tensor | None = None, return_embedding: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Embedding]:
        """Logits (N, 1) of pictures (N, img_channels, R, R) with labels (N, c_dim), and if asked for the embedding."""
        embedding = self.embed(img)
        logits = self.logits(embedding, c)
        return (logits, embedding) if return_embedding else logits

    def target(self, z: torch.Tensor) -> torch.Tensor:
        """The unit vectors (N, n) that pictures of latents (N, z_dim) should give."""
        check_shape("z", z, [None, self.z_dim])
        return spherical_to_cartesian(z_to_angles(z.to(torch.float32), self.normalize_z, self.z_prior))

    def invert(self, img: torch.Tensor) -> torch.Tensor:
        """The latents z (N, z_dim) of pictures, in one pass. With ``normalize_z`` their root mean square is one."""
        return self.latents(self.embed(img).direction)

    def latents(self, direction: torch.Tensor) -> torch.Tensor:
        """The latents z (N, z_dim) of unit vectors (N, n), after `nearest_normalized` if ``normalize_z`` is True."""
        z = angles_to_z(cartesian_to_spherical(direction), self.z_prior)
        return nearest_normalized(z) if self.normalize_z else z


class AttachedDirection(DirectionDiscriminator):
    """A trained discriminator with a head that only finds latents. The trunk's own score stays the logit.

    The head reads the maps of 4x4 before the trunk's last part, so the trunk may compare the pictures of a batch there: an
    embedding depends on one picture alone all the same.

    Args:
        trunk: a `networks.discriminators.Discriminator`.
        z_dim: see `DirectionDiscriminator`.
        normalize_z: see `DirectionDiscriminator`.
    """

    judges = False
    trunk: Discriminator

    def __init__(self, trunk: Discriminator, z_dim: int, normalize_z: bool = True):
        RecordedModule.__init__(self)
        self.trunk = trunk
        self.z_dim = z_dim
        self.normalize_z = normalize_z
        self.z_prior = "normal"
        self.outputs = FullyConnectedLayer(trunk.num_maps, z_dim + 1, bias_init=_bias_of_outputs(z_dim + 1))

    def embed(self, img: torch.Tensor) -> Embedding:
        """The embedding of pictures (N, img_channels, R, R) in [-1, 1]. Its features are the maps."""
        return self._embedding(self.flat(self.trunk.maps(img)[0]))

    @staticmethod
    def flat(maps: torch.Tensor) -> torch.Tensor:
        """The input of the head, (N, C * 4 * 4) float32, from `Discriminator.maps`."""
        return maps.to(torch.float32).flatten(1)

    def forward(
        self, img: torch.Tensor, c: torch.Tensor | None = None, return_embedding: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Embedding]:
        """The trunk's logits (N, 1) of pictures with labels (N, c_dim), and if asked for the embedding."""
        maps, small = self.trunk.maps(img)
        logits = self.trunk.score(self.trunk.b4.features(maps, small), c)
        return (logits, self._embedding(self.flat(maps))) if return_embedding else logits

    def latents(self, direction: torch.Tensor) -> torch.Tensor:
        """The latents z (N, z_dim) of unit vectors (N, n), divided by their root mean square if ``normalize_z`` is True.

        `nearest_normalized` is for a generator that was trained with the head, and has put what matters into those entries
        of z that move the point most. In other generators all entries matter alike.
        """
        z = angles_to_z(cartesian_to_spherical(direction))
        return normalize_2nd_moment(z) if self.normalize_z else z
