"""Losses of a GAN in training. Their interface is that of stylegan2-ada-pytorch's ``training/loss.py``, without ``sync``."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..networks.direction import Embedding, angle_degrees, embedding_loss
from ..ops import no_weight_gradients
from .means import Statistics

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class Adversarial(NamedTuple):
    """What the two networks lower, as functions of D's logits (N, 1), which are higher for pictures that D holds for real.

    Attributes:
        G: G's loss, of the logits of generated pictures.
        D_fake: D's loss, of the logits of generated pictures.
        D_real: D's loss, of the logits of real pictures.
        boundary: the logit that stands between real and generated, by which adaptive augmentation judges; None if the loss
            fixes none.
        penalty: the regularisation of D's gradient: "r1" or "gp".
    """

    G: Callable[[torch.Tensor], torch.Tensor]
    D_fake: Callable[[torch.Tensor], torch.Tensor]
    D_real: Callable[[torch.Tensor], torch.Tensor]
    boundary: float | None = 0
    penalty: str = "r1"


ADVERSARIAL = {
    "nsgan": Adversarial(
        G=lambda fake: F.softplus(-fake), D_fake=lambda fake: F.softplus(fake), D_real=lambda real: F.softplus(-real)
    ),
    "lsgan": Adversarial(
        G=lambda fake: (fake - 1).square() / 2,
        D_fake=lambda fake: fake.square() / 2,
        D_real=lambda real: (real - 1).square() / 2,
        boundary=0.5,
    ),
    "wgan-gp": Adversarial(
        G=lambda fake: -fake, D_fake=lambda fake: fake, D_real=lambda real: -real, boundary=None, penalty="gp"
    ),
    "hinge": Adversarial(
        G=lambda fake: -fake, D_fake=lambda fake: F.relu(1 + fake), D_real=lambda real: F.relu(1 - real)
    ),
}
"""The adversarial losses by name.

Sources: nsgan: Goodfellow et al. 2014, as StyleGAN2 uses it. lsgan: Mao et al. 2017, equation 9, where real is 1 and generated
is 0. wgan-gp: Gulrajani et al. 2017, algorithm 1. hinge: Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
"""


class GANLoss:
    """An adversarial loss, and a penalty on the discriminator's gradient.

    Args:
        device: where the networks are.
        G: the generator, called with latents and labels.
        D: the discriminator. ``D(img, c)`` gives logits, which are higher for real pictures.
        augment_pipe: applied to all pictures that D sees; None for none.
        r1_gamma: the weight of the penalty. For R1, the squared gradient of D at real pictures, half of it is counted. For the
            gradient penalty of WGAN-GP it is lambda, and the penalty is the square of what the length of the gradient lacks
            or exceeds of one, at points between real and generated pictures.
        adversarial: a name of `ADVERSARIAL`.
        drift: the weight of the squared logits of real pictures, which keeps a critic's output from drifting away.

    Attributes:
        stats: means of scores, signs, losses and penalties since they were last cleared.
        real_signs: the mean sign of D at real pictures, to which `GANTrainer` adapts the augmentation.
        averages: running means that belong to the loss, by name; a checkpoint holds them.

    Pictures stand for outputs of any kind: a tensor (N, ...) with one output per row.

    Source: Mescheder et al. 2018 (R1); Karras et al. 2018 (drift); `ADVERSARIAL`.
    """

    mixes = False  # True if generated pictures may be made from more than one latent

    def __init__(
        self,
        device: torch.device,
        G: Callable | None,
        D: Callable,
        augment_pipe: Callable | None = None,
        r1_gamma: float = 10,
        adversarial: str = "nsgan",
        drift: float = 0,
    ):
        self.device = device
        self.G = G
        self.D = D
        self.augment_pipe = augment_pipe
        self.r1_gamma = r1_gamma
        self.adversarial = ADVERSARIAL[adversarial]
        self.drift = drift
        self.averages: dict[str, torch.Tensor] = {}
        self.stats = Statistics()
        self.real_signs = Statistics()

    def generate(self, z: torch.Tensor, c: torch.Tensor, mix: bool = True) -> torch.Tensor:
        """Pictures of latents z and labels c; ``mix`` allows a picture to be made from several latents."""
        return self.G(z, c)

    def run_D(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Logits (N, 1) of pictures, which are augmented first if there is a pipe."""
        return self.D(img if self.augment_pipe is None else self.augment_pipe(img), c)

    def judge_generated(
        self, z: torch.Tensor, c: torch.Tensor, for_G: bool
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Logits (N, 1) of generated pictures, and a further loss (N, 1) that both networks lower; here there is none.

        Args:
            z: latents (N, z_dim).
            c: labels (N, c_dim).
            for_G: True in a phase of the generator.
        """
        return self.run_D(self.generate(z, c), c), 0.0

    def penalty_of_G(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor | None:
        """The weighted regularisation (n,) of the generator, or None if there is none."""
        return None

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        gain: float,
    ) -> None:
        """Add the gradients of one phase to the parameters that require any.

        Args:
            phase: "Gmain", "Greg", "Gboth", "Dmain", "Dreg" or "Dboth".
            real_img: real pictures (N, C, R, R) in [-1, 1].
            real_c: their labels (N, c_dim).
            gen_z: latents (N, z_dim) from N(0, I).
            gen_c: their labels (N, c_dim).
            gain: a factor on the loss. For a phase that comes every so many steps it is the number of these steps.

        Raises:
            ValueError: there is no such phase.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is {phase!r}; expected one of {', '.join(PHASES)}")
        main, regularise = phase.endswith(("main", "both")), phase.endswith(("reg", "both"))
        if phase.startswith("G"):
            if main:
                logits, further = self.judge_generated(gen_z, gen_c, for_G=True)
                self._report("fake", logits)
                loss = self.adversarial.G(logits)
                self.stats.add("loss/G", loss)
                (loss + further).mean().mul(gain).backward()
            penalty = self.penalty_of_G(gen_z, gen_c) if regularise else None
            if penalty is not None:
                penalty.mean().mul(gain).backward()
            return

        penalise = regularise and self.r1_gamma != 0
        r1 = penalise and self.adversarial.penalty == "r1"
        if main:
            logits, further = self.judge_generated(gen_z, gen_c, for_G=False)
            self._report("fake", logits)
            loss = self.adversarial.D_fake(logits)
            self.stats.add("loss/D_fake", loss)
            (loss + further).mean().mul(gain).backward()
        if main or r1:
            self._real(real_img, real_c, main, r1).mean().mul(gain).backward()
        if penalise and not r1:
            self._gradient_penalty(real_img, real_c, gen_z, gen_c).mean().mul(gain).backward()

    def _real(self, img: torch.Tensor, c: torch.Tensor, main: bool, r1: bool) -> torch.Tensor:
        """D's loss (N, 1) of real pictures: the adversarial one, R1, or both."""
        img = img.detach().requires_grad_(r1)
        logits = self.run_D(img, c)
        self._report("real", logits)
        loss = torch.zeros_like(logits)
        if main:
            loss = self.adversarial.D_real(logits)
            self.stats.add("loss/D_real", loss)
            if self.drift:
                loss = loss + self.drift * logits.square()
        if r1:
            with no_weight_gradients():
                (slope,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
            penalty = _squares(slope)
            self.stats.add("r1_penalty", penalty)
            loss = loss + penalty * (self.r1_gamma / 2)
        # Nothing times the logits gives every parameter a gradient, so that Adam counts the step for all of them.
        return logits * 0 + loss

    def _gradient_penalty(
        self, real_img: torch.Tensor, real_c: torch.Tensor, gen_z: torch.Tensor, gen_c: torch.Tensor
    ) -> torch.Tensor:
        """The weighted penalty (N, 1) of WGAN-GP, at a random point between each real and a generated picture."""
        with torch.no_grad():
            img = self.generate(gen_z, gen_c)
            share = torch.rand([len(img), *[1] * (img.ndim - 1)], device=img.device)
            between = real_img.detach().lerp(img, share)
        between.requires_grad_(True)
        logits = self.run_D(between, real_c)
        (slope,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
        penalty = ((_squares(slope) + 1e-12).sqrt() - 1).square()  # the root has no slope at zero
        self.stats.add("gradient_penalty", penalty)
        return logits * 0 + penalty * self.r1_gamma

    def _report(self, kind: str, logits: torch.Tensor) -> None:
        self.stats.add(f"scores/{kind}", logits)
        self.stats.add(f"signs/{kind}", logits.sign())
        if kind == "real" and self.adversarial.boundary is not None:
            self.real_signs.add("sign", (logits - self.adversarial.boundary).sign())


def _squares(slope: torch.Tensor) -> torch.Tensor:
    """The squared length (N, 1) of each row (N, ...)."""
    return slope.square().sum(dim=list(range(1, slope.ndim)))[:, None]


class StyleGAN2Loss(GANLoss):
    """`GANLoss` with StyleGAN2's style mixing and path-length regularisation.

    The default is StyleGAN2's: non-saturating logistic loss and R1.

    Args:
        device: as in `GANLoss`, like ``D``, ``augment_pipe``, ``r1_gamma`` and ``adversarial``.
        G_mapping: the generator's mapping network.
        G_synthesis: the generator's synthesis network.
        D: the discriminator.
        augment_pipe: applied to all pictures that D sees; None for none.
        style_mixing_prob: the probability that the later layers of a batch take their w from other latents.
        r1_gamma: the weight of the penalty.
        pl_batch_shrink: path-length regularisation takes the batch divided by this.
        pl_decay: the speed of the running mean of path lengths.
        pl_weight: the weight of path-length regularisation.
        adversarial: a name of `ADVERSARIAL`.

    Source: Karras et al. 2020 ("Analyzing and Improving the Image Quality of StyleGAN", sections 2 and 3).
    """

    def __init__(
        self,
        device: torch.device,
        G_mapping: Callable,
        G_synthesis: Callable,
        D: Callable,
        augment_pipe: Callable | None = None,
        style_mixing_prob: float = 0.9,
        r1_gamma: float = 10,
        pl_batch_shrink: int = 2,
        pl_decay: float = 0.01,
        pl_weight: float = 2,
        adversarial: str = "nsgan",
    ):
        super().__init__(device, None, D, augment_pipe, r1_gamma, adversarial)
        self.G_mapping = G_mapping
        self.G_synthesis = G_synthesis
        self.style_mixing_prob = style_mixing_prob
        self.pl_batch_shrink = pl_batch_shrink
        self.pl_decay = pl_decay
        self.pl_weight = pl_weight
        self.pl_mean = torch.zeros([], device=device)
        self.averages = {"pl_mean": self.pl_mean}

    @property
    def mixes(self) -> bool:
        """True if a picture may use two different w."""
        return self.style_mixing_prob > 0

    def run_G(self, z: torch.Tensor, c: torch.Tensor, mix: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (N, C, R, R) and ws (N, num_ws, w_dim) of latents z and labels c; ``mix`` allows style mixing."""
        ws = self.G_mapping(z, c)
        if mix and self.style_mixing_prob > 0:
            num_ws = ws.shape[1]
            cutoff = int(torch.randint(1, num_ws, [])) if torch.rand([]) < self.style_mixing_prob else num_ws
            if cutoff < num_ws:
                others = self.G_mapping(torch.randn_like(z), c, skip_w_avg_update=True)
                ws = torch.cat([ws[:, :cutoff], others[:, cutoff:]], dim=1)
        return self.G_synthesis(ws), ws

    def generate(self, z: torch.Tensor, c: torch.Tensor, mix: bool = True) -> torch.Tensor:
        """The pictures of `run_G`."""
        return self.run_G(z, c, mix)[0]

    def penalty_of_G(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor | None:
        """The weighted penalty (n,) of path-length regularisation, for a part of the batch."""
        if self.pl_weight == 0:
            return None
        n = max(1, len(z) // self.pl_batch_shrink)
        img, ws = self.run_G(z[:n], c[:n])
        noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])
        with no_weight_gradients():
            (slope,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
        lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay)
        self.pl_mean.copy_(mean.detach())
        penalty = (lengths - mean).square()
        self.stats.add("pl_penalty", penalty)
        return img[:, 0, 0, 0] * 0 + penalty * self.pl_weight  # gives every parameter a gradient, as in `GANLoss`


class _EmbedsDirection(GANLoss):
    """What a loss of any architecture has besides if its discriminator embeds the latent direction.

    The embedding is learned on pictures without style mixing and without augmentation. In a run that has neither, they are
    the pictures of the adversarial loss, and D sees them once.

    Args:
        args: those of the loss; D is a `DirectionDiscriminator`.
        embedding_weight: lambda_emb, the weight of the tangent of the angle between embedding and latent.
        embedding_for: "both" networks lower it, or the "discriminator" alone, whose generator then has the losses of a
            training without a head.
        kwargs: those of the loss.

    Source: Cho, algorithm 1.
    """

    def __init__(self, *args, embedding_weight: float = 1, embedding_for: str = "both", **kwargs):
        super().__init__(*args, **kwargs)
        self.embedding_weight = embedding_weight
        self.embedding_for = embedding_for

    def judge_generated(
        self, z: torch.Tensor, c: torch.Tensor, for_G: bool
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The logits of `GANLoss`, and the weighted embedding loss (N, 1)."""
        if for_G and self.embedding_for == "discriminator":
            return super().judge_generated(z, c, for_G)
        plain = not self.mixes and self.augment_pipe is None
        logits = None if plain else super().judge_generated(z, c, for_G)[0]
        img = self.generate(z, c, mix=False)
        own_logits, embedding = self.D(img, c, return_embedding=True)
        further = self._embedding_loss(embedding, z)
        if not for_G and self.D.judges and self.D.trunk.c_dim == 0:
            # The trunk's own score learns to give the head's logit. Its input is detached, so only this last layer learns.
            copied = self.D.trunk.score(embedding.features.detach(), None)
            further = further + (copied - own_logits.detach()).square()
        return own_logits if plain else logits, further

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        gain: float,
    ) -> None:
        """As that of `GANLoss`, with a further phase "Dhead", in which the embedding loss is the only one."""
        if phase != "Dhead":
            return super().accumulate_gradients(phase, real_img, real_c, gen_z, gen_c, gain)
        with torch.no_grad():
            img = self.generate(gen_z, gen_c, mix=False)
        self._embedding_loss(self.D.embed(img), gen_z).mean().mul(gain).backward()

    def _embedding_loss(self, embedding: Embedding, z: torch.Tensor) -> torch.Tensor:
        """The weighted embedding loss (N, 1)."""
        target = self.D.target(z)
        tangent = embedding_loss(embedding.direction, target)[:, None]
        self.stats.add("loss/embedding", tangent)
        self.stats.add("angle", angle_degrees(embedding.direction.detach(), target))
        return self.embedding_weight * tangent


class GANDirectionLoss(_EmbedsDirection):
    """`GANLoss` with a discriminator that embeds the latent direction."""


class DirectionLoss(_EmbedsDirection, StyleGAN2Loss):
    """`StyleGAN2Loss` with a discriminator that embeds the latent direction."""
