"""A small classifier of spoken digits, whose weights come with this package."""

import torch
import torch.nn.functional as F

CLASSES = 10
FEATURES = 96  # numbers per sound before the last layer
WIDTHS = (16, 32, 64, FEATURES)


class DigitClassifier(torch.nn.Module):
    """From logarithmic mel spectrograms to digits: four convolutions with batch normalisation, and a linear layer.

    The input is (N, 1, bands, frames), see `losses.digits.levels`. Any number of frames from 16 on is accepted.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = (1, *WIDTHS)
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(n, m, 3, padding=1, bias=False) for n, m in zip(channels, WIDTHS)
        )
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(m) for m in WIDTHS)
        self.out = torch.nn.Linear(FEATURES, CLASSES)

    def maps(self, levels: torch.Tensor) -> list[torch.Tensor]:
        """What each convolution makes of spectrograms (N, 1, bands, frames): four maps, each of half the size."""
        maps, x = [], levels
        for conv, norm in zip(self.convs, self.norms):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
            maps.append(x)
        return maps

    def pooled(self, last: torch.Tensor) -> torch.Tensor:
        """The features (N, 96) that the last layer judges by: of the last of ``maps``, the mean over bands and the frames."""
        return last.mean(dim=[2, 3])

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of spectrograms (N, 1, bands, frames)."""
        return self.out(self.pooled(self.maps(levels)[-1]))
