"""How the targets of a run are seen: whole, or through an observation; and what is measured of the outputs."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.losses import Distance
from stylegan_invert.media.medium import medium_of
from stylegan_invert.media.picture_medium import Pictures

from .observations import OBSERVATIONS, Observation, parse


class View:
    """What is compared of targets and outputs, and measured of results.

    Args:
        generator: the run's generator.
        observe: as for `observations.parse`; None compares outputs as they are.
        observed: True if targets are observed already, so that their shape is that of an observed output.

    Attributes:
        observe: the observation, on the generator's device; None for none.
        medium: the medium of whole outputs.
        seen: the medium of what is compared.

    Raises:
        ValueError: the observation cannot be understood or does not fit the outputs, or there is none to be ``observed``.
    """

    def __init__(
        self,
        generator: GeneratorAdapter,
        observe: str | Observation | Callable[[torch.Tensor], torch.Tensor] | list | None,
        observed: bool,
    ):
        self.medium = self.seen = medium_of(generator)
        self.observe, self.observed, self.device = parse(observe), observed, generator.device
        if self.observe is observe:  # it is prepared for outputs of this generator, and may be in use for another's
            self.observe = copy.deepcopy(observe)
        if self.observe is None:
            if observed:
                raise ProjectionError(
                    "the targets are said to be observed, and no observation was named; name it (observe)"
                )
            return
        unsuited = [part.text for part in self.observe.parts if generator.medium not in part.media]
        if unsuited:
            there = ", ".join(name for name, part in OBSERVATIONS.items() if generator.medium in part.media)
            raise ProjectionError(
                f"{unsuited[0]!r} cannot be observed of a {generator.medium}; for {generator.medium}s there are {there}, and in "
                "Python any function"
            )
        shape = self.observe.to(self.device).shape(generator.output_shape)
        self.observe.to(self.device)
        self.seen = type(self.medium)(shape, **generator.medium_facts)
        if observed:  # what cannot be accepted is refused now
            self.observe.accept(torch.zeros([1, *shape], device=self.device))

    @property
    def record(self) -> dict[str, Any]:
        """The entries of result.json."""
        return {} if self.observe is None else {"observe": self.observe.text, "observed": self.observed}

    @property
    def given(self) -> Any:
        """The medium in which targets are given."""
        return self.seen if self.observed else self.medium

    def compared(self, shown: torch.Tensor) -> torch.Tensor:
        """Targets (N, ...) in [-1, 1] as they are compared."""
        if self.observe is None:
            return shown
        with torch.no_grad():
            return self.observe.accept(shown) if self.observed else self.observe.degrade(shown)

    def stored(self, arrays: torch.Tensor) -> torch.Tensor:
        """Targets (N, ...) as they were read, in the form in which they are compared and saved."""
        if self.observe is None:
            return arrays
        return self.seen.nearest(self.compared(self.given.tensor(arrays, self.device)))

    def check_pictures(self) -> None:
        """Raise ProjectionError if what is observed of pictures cannot be saved and measured as a picture."""
        shape = self.seen.shape
        if isinstance(self.seen, Pictures) and (len(shape) != 3 or shape[0] not in (1, 3, 4)):
            raise ProjectionError(
                f"'observe' gives outputs of shape {shape}; to save and to measure them, it must give pictures "
                "(C, H, W) with C of 1, 3 or 4. Projector.fit takes any shape"
            )

    def check_compose(self) -> None:
        """Raise ProjectionError if nothing of the outputs is known from the target as it is."""
        shapes = (self.seen.shape, self.medium.shape)
        if (
            self.observe is None
            or self.observe.composed(*(torch.zeros(1, *s, device=self.device) for s in shapes)) is None
        ):
            raise ProjectionError(
                "compose puts what is known into the result, and only a mask (known pixels) or grey (known brightness) says "
                "what this is; observe one of them alone"
            )

    def composed(self, target: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """One stored output (C, H, W) with what is known from a stored target."""
        pair = (self.seen.tensor(target[None], self.device), self.medium.tensor(output[None], self.device))
        composed = None if self.observe is None else self.observe.composed(*pair)
        if composed is None:
            raise ProjectionError("nothing of the output is known from the target; see check_compose")
        return self.medium.nearest(composed)[0]

    def judged(
        self,
        target: torch.Tensor,
        output: torch.Tensor,
        truth: torch.Tensor | None,
        compose: bool,
        reported: dict[str, Distance],
    ) -> tuple[dict[str, Any], torch.Tensor | None]:
        """The measures of a stored output, and the output with what is known from the target, if that is asked for.

        Args:
            target: the stored target as it was compared.
            output: the stored output.
            truth: the whole target, if it is known; the output and the composed one are measured against it, too.
            compose: True composes.
            reported: the distances to measure.
        """
        composed = self.composed(target, output) if compose else None
        shown = output
        if self.observe is not None:
            with torch.no_grad():
                shown = self.seen.nearest(self.observe(self.medium.tensor(output[None], self.device)))[0]
        metrics = self.seen.metrics(target, shown, reported)
        if truth is not None:
            metrics["truth"] = self.medium.metrics(truth, output, reported)
            if composed is not None:
                metrics["composed"] = self.medium.metrics(truth, composed, reported)
        return metrics, composed
