"""Standing statistics: those of batch normalisation, measured for the generator that a file gets."""

from typing import Any

import torch


def with_standing_statistics(G: torch.nn.Module, labels: torch.Tensor, options: Any) -> torch.nn.Module:
    """A finished generator whose stored statistics are replaced, on the device of ``labels``.

    Args:
        G: a finished generator in eval mode. It is changed.
        labels: the labels (N, c_dim) of the training set, from which those of the batches are drawn.
        options: the options of the run: ``standing`` batches of ``batch`` latents of ``z_dim`` entries from N(0, 1). They
            are the same every time.
    """
    random = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(options.standing):
        z = torch.randn([options.batch, options.z_dim], generator=random).to(labels.device)
        batches.append((z, labels[torch.randint(len(labels), [options.batch], generator=random)]))
    G = G.to(labels.device)
    set_standing_statistics(G, batches)
    return G


@torch.no_grad()
def set_standing_statistics(G: torch.nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Set the stored statistics of batch normalisation to the mean of those of several batches.

    The variances are those of each batch with Bessel's correction, as running statistics have them.

    Args:
        G: a finished generator in eval mode; only its statistics change.
        batches: latents (N, z_dim) and labels (N, c_dim) of each batch.

    Source: Brock et al. 2019, appendix B, "standing statistics".
    """
    norms = [module for module in G.modules() if getattr(module, "momentum", None) is not None]
    before = [module.momentum for module in norms]
    for module in norms:
        module.train()
    for i, (z, c) in enumerate(batches):
        for module in norms:
            module.momentum = 1 / (i + 1)
        G(z, c)
    for module, momentum in zip(norms, before):
        module.momentum = momentum
        module.eval()
