"""Training losses, with the interface of stylegan2-ada-pytorch's ``training/loss.py``."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from ..networks.direction import angle_degrees, embedding_loss
from .means import Statistics

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


@contextlib.contextmanager
def _synced(module: Callable, sync: bool) -> Iterator[None]:
    """Gradients of a DistributedDataParallel module are exchanged only where ``sync`` is true; others have none to exchange."""
    with contextlib.nullcontext() if sync or not hasattr(module, "no_sync") else module.no_sync():
        yield


class StyleGAN2Loss:
    """Non-saturating logistic loss, R1 and path-length regularisation.

    Args:
        device: where the networks are.
        G_mapping, G_synthesis, D: the networks. ``D(img, c)`` gives logits, higher for real pictures.
        augment_pipe: applied to all pictures that D sees; None for none.
        style_mixing_prob: how often a batch takes the w of its later layers from other latents.
        r1_gamma: weight of the squared gradient of D at real pictures, halved.
        pl_batch_shrink, pl_decay, pl_weight: path-length regularisation: part of the batch, speed of the running mean of
            lengths, weight.

    ``stats`` gathers what was seen: scores, signs, losses, penalties. ``real_signs`` gathers the signs of D at real
    pictures, for whoever adapts the augmentation to them.

    Source: Karras et al. 2020 ("Analyzing and Improving the Image Quality of StyleGAN", sections 2 and 3); Mescheder et
    al. 2018 (R1).
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
    ):
        self.device = device
        self.G_mapping = G_mapping
        self.G_synthesis = G_synthesis
        self.D = D
        self.augment_pipe = augment_pipe
        self.style_mixing_prob = style_mixing_prob
        self.r1_gamma = r1_gamma
        self.pl_batch_shrink = pl_batch_shrink
        self.pl_decay = pl_decay
        self.pl_weight = pl_weight
        self.pl_mean = torch.zeros([], device=device)
        self.stats = Statistics()
        self.real_signs = Statistics()

    def run_G(
        self, z: torch.Tensor, c: torch.Tensor, sync: bool, mix: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (N, C, R, R) and ws (N, num_ws, w_dim) of latents z and labels c."""
        with _synced(self.G_mapping, sync):
            ws = self.G_mapping(z, c)
            if mix and self.style_mixing_prob > 0:
                num_ws = ws.shape[1]
                cutoff = int(torch.randint(1, num_ws, [])) if torch.rand([]) < self.style_mixing_prob else num_ws
                if cutoff < num_ws:
                    others = self.G_mapping(torch.randn_like(z), c, skip_w_avg_update=True)
                    ws = torch.cat([ws[:, :cutoff], others[:, cutoff:]], dim=1)
        with _synced(self.G_synthesis, sync):
            return self.G_synthesis(ws), ws

    def run_D(self, img: torch.Tensor, c: torch.Tensor, sync: bool) -> torch.Tensor:
        """Logits (N, 1) of pictures, augmented if there is a pipe."""
        img = img if self.augment_pipe is None else self.augment_pipe(img)
        with _synced(self.D, sync):
            return self.D(img, c)

    def judge_generated(
        self, z: torch.Tensor, c: torch.Tensor, sync_G: bool, for_G: bool
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Logits (N, 1) of generated pictures, and a further loss (N, 1) that both networks lower; here none."""
        img, _ = self.run_G(z, c, sync_G)
        return self.run_D(img, c, sync=False), 0.0

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        sync: bool,
        gain: float,
    ) -> None:
        """Add the gradients of one phase to the parameters that require any.

        Args:
            phase: "Gmain", "Greg", "Gboth", "Dmain", "Dreg" or "Dboth".
            real_img: (N, C, R, R) in [-1, 1]. real_c: (N, c_dim).
            gen_z: (N, z_dim) from N(0, I). gen_c: (N, c_dim).
            sync: whether distributed modules exchange gradients in this round.
            gain: factor on the loss; a lazily regularised phase takes its interval.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is {phase!r}; expected one of {', '.join(PHASES)}")
        main, regularise = phase.endswith(("main", "both")), phase.endswith(("reg", "both"))
        if phase.startswith("G"):
            paths = regularise and self.pl_weight != 0
            if main:
                logits, further = self.judge_generated(gen_z, gen_c, sync_G=sync and not paths, for_G=True)
                self._report("fake", logits)
                loss = F.softplus(-logits)
                self.stats.add("loss/G", loss)
                (loss + further).mean().mul(gain).backward()
            if paths:
                self._path_lengths(gen_z, gen_c, sync).mean().mul(gain).backward()
            return

        r1 = regularise and self.r1_gamma != 0
        if main:
            logits, further = self.judge_generated(gen_z, gen_c, sync_G=False, for_G=False)
            self._report("fake", logits)
            loss = F.softplus(logits)
            self.stats.add("loss/D_fake", loss)
            (loss + further).mean().mul(gain).backward()
        if main or r1:
            real_img = real_img.detach().requires_grad_(r1)
            logits = self.run_D(real_img, real_c, sync)
            self._report("real", logits)
            loss = torch.zeros_like(logits)
            if main:
                loss = F.softplus(-logits)
                self.stats.add("loss/D_real", loss)
            if r1:
                (slope,) = torch.autograd.grad(logits.sum(), real_img, create_graph=True)
                penalty = slope.square().sum(dim=[1, 2, 3])[:, None]
                self.stats.add("r1_penalty", penalty)
                loss = loss + penalty * (self.r1_gamma / 2)
            (logits * 0 + loss).mean().mul(gain).backward()

    def _path_lengths(self, z: torch.Tensor, c: torch.Tensor, sync: bool) -> torch.Tensor:
        n = max(1, len(z) // self.pl_batch_shrink)
        img, ws = self.run_G(z[:n], c[:n], sync)
        noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])
        (slope,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
        lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay)
        self.pl_mean.copy_(mean.detach())
        penalty = (lengths - mean).square()
        self.stats.add("pl_penalty", penalty)
        return img[:, 0, 0, 0] * 0 + penalty * self.pl_weight  # every parameter takes part, as distributed modules ask

    def _report(self, kind: str, logits: torch.Tensor) -> None:
        self.stats.add(f"scores/{kind}", logits)
        self.stats.add(f"signs/{kind}", logits.sign())
        if kind == "real":
            self.real_signs.add("sign", logits.sign())


class DirectionLoss(StyleGAN2Loss):
    """`StyleGAN2Loss` with a discriminator that embeds the latent direction.

    Args:
        all of `StyleGAN2Loss`; D is a `DirectionDiscriminator`.
        embedding_weight: lambda_emb, the weight of the tangent of the angle between embedding and latent.

    The embedding is learned on pictures without style mixing and augmentation; where there is neither, they are the
    pictures of the adversarial loss, and judged once.

    Source: Cho, algorithm 1.
    """

    def __init__(self, *args, embedding_weight: float = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.embedding_weight = embedding_weight

    def judge_generated(self, z, c, sync_G, for_G):
        plain = self.style_mixing_prob == 0 and self.augment_pipe is None
        logits = None if plain else super().judge_generated(z, c, sync_G=False, for_G=for_G)[0]
        img, _ = self.run_G(z, c, sync_G, mix=False)
        with _synced(self.D, False):
            own_logits, embedding = self.D(img, c, return_embedding=True)
        target = self.D.target(z)
        tangent = embedding_loss(embedding.direction, target)[:, None]
        self.stats.add("loss/embedding", tangent)
        self.stats.add("angle", angle_degrees(embedding.direction.detach(), target))
        further = self.embedding_weight * tangent
        if not for_G and self.D.trunk.c_dim == 0:
            # The trunk's own output learns to say what the head says; nothing below it notices.
            copied = self.D.trunk.score(embedding.features.detach(), None)
            further = further + (copied - own_logits.detach()).square()
        return own_logits if plain else logits, further
