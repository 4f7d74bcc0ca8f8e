"""This project's discriminator and loss for the training loops of stylegan2-ada-pytorch and stylegan3.

Those loops construct what they are told by the keywords ``D_kwargs.class_name`` and ``loss_kwargs.class_name``. Here are the
classes to name there, and `replaced`, which puts them into the keywords of a run. The loop, its generator, data, augmentation
and files stay NVIDIA's own; nothing of them is contained here.
"""

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import TrainingError
from ..files.pickled import Call, Name
from ..network_files.families.direction_head import KEY, direction_tensors
from ..network_files.file import EXTRA_KEY, load, written_tables
from ..network_files.machine.persistence import module_call
from ..networks.direction import DirectionDiscriminator, latent_weights
from ..networks.discriminators import Discriminator
from .gan_losses import DirectionLoss
from .means import Statistics

D_CLASS = f"{__name__}.HeadDiscriminator"
LOSS_CLASS = f"{__name__}.HeadLoss"
UNUSED = ("pl_no_weight_grad", "blur_fade_kimg")  # arguments that change no number here


class HeadDiscriminator(DirectionDiscriminator):
    """A discriminator with a direction head, constructed as the official loops construct theirs.

    Pickled, it is the official Discriminator that its trunk is, with the tensors of the head beside it. So official code
    opens the file, and `network_files.file.load` finds the head in it.

    Args:
        z_dim: size of the generator's latents.
        start: a network file with a head, to begin with its discriminator; None for new weights.
        arguments: those of the official class. Its comparison of the pictures of a batch is left out, since an embedding
            must depend on one picture alone.

    Attributes:
        average: the average of this discriminator over the last pictures, which `HeadLoss` makes.

    Raises:
        TrainingError: ``start`` has no head, or one of other sizes.
    """

    def __init__(self, z_dim: int = 512, start: str | None = None, **arguments: Any):
        epilogue = {**(arguments.pop("epilogue_kwargs", None) or {}), "mbstd_num_channels": 0}
        super().__init__(Discriminator(epilogue_kwargs=epilogue, **arguments), z_dim)
        self.__dict__["average"] = None  # no part of the module: the loop would train it, too
        if start is not None:
            self._start_from(start)

    def _start_from(self, start: str) -> None:
        net = load(start)
        if net.direction is None:
            raise TrainingError(
                f"{start}: it has no direction head; --resume needs a file of such a run, or leave it out"
            )
        trunk, average = net["D"].state_dict(), net.direction
        try:
            self.trunk.load_state_dict(trunk)
            self.outputs.load_state_dict(dict(net.extra[KEY]["outputs"]))
        except RuntimeError as e:
            raise TrainingError(
                f"{start}: its discriminator is of other sizes ({str(e).splitlines()[-1].strip()})"
            ) from None
        self.__dict__["average"] = average

    def __deepcopy__(self, memo: dict[int, Any]) -> "HeadDiscriminator":
        """A copy with the same class; without this method, `copy` would go by `__reduce__`."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __reduce_ex__(self, protocol: int) -> tuple:
        record = module_call(self.trunk)
        (meta,) = record.args
        tensors = direction_tensors(self, self if self.average is None else self.average)
        meta["state"][EXTRA_KEY] = written_tables({KEY: tensors})
        return _Written(record).__reduce__()


class _Written:
    """An object of which a pickle holds the call that a `Call` describes."""

    def __init__(self, call: Call):
        self.call = call

    def __reduce__(self) -> tuple:
        function = getattr(importlib.import_module(self.call.module), self.call.name)
        items = iter([(key, _written(value)) for key, value in self.call.items.items()])
        return function, tuple(map(_written, self.call.args)), None, None, items


def _written(value: Any) -> Any:
    if isinstance(value, Call):
        return _Written(value)
    if isinstance(value, Name):
        return getattr(importlib.import_module(value.module), value.name)
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return type(value)(map(_written, value)) if isinstance(value, (list, tuple)) else value


class _Reported(Statistics):
    """Statistics that the loop collects: those of its ``torch_utils.training_stats``."""

    def __init__(self):
        super().__init__()
        self._report = importlib.import_module("torch_utils.training_stats").report

    def add(self, name: str, values: torch.Tensor) -> None:
        self._report(f"Loss/{name}", values.detach())


class HeadLoss:
    """`DirectionLoss` with the two interfaces of the official loops.

    Args:
        device: where the networks are.
        G: the generator, as stylegan3 gives it; None where ``G_mapping`` and ``G_synthesis`` are given.
        G_mapping: its mapping network, as stylegan2-ada-pytorch gives it.
        G_synthesis: its synthesis network, likewise.
        D: a `HeadDiscriminator`.
        augment_pipe: applied to what D judges; None for none.
        fresh: True for a run that begins with new weights. The mapping network then gets those of `latent_weights`.
        embedding_weight: weight of the embedding loss at first.
        embedding_weight_later: its weight from ``embedding_later_kimg`` on.
        embedding_later_kimg: thousands of pictures after which that weight applies.
        processes: the number of processes (num_gpus).
        D_ema_kimg: half-life of the average of D in thousands of pictures; at most a twentieth of the pictures so far.
        options: further keywords of the official loss.

    Raises:
        TrainingError: D is of another class, or the loss is asked to blur, which it does not.
    """

    def __init__(
        self,
        device: torch.device,
        D: torch.nn.Module,
        G: torch.nn.Module | None = None,
        G_mapping: torch.nn.Module | None = None,
        G_synthesis: torch.nn.Module | None = None,
        augment_pipe: torch.nn.Module | None = None,
        fresh: bool = True,
        embedding_weight: float = 1,
        embedding_weight_later: float = 10,
        embedding_later_kimg: float = 300,
        processes: int = 1,
        D_ema_kimg: float = 10,
        **options: Any,
    ):
        if not isinstance(D, HeadDiscriminator):
            raise TrainingError(f"D is a {type(D).__name__}; expected D_kwargs.class_name to be {D_CLASS}, on one GPU")
        if options.pop("blur_init_sigma", 0):
            raise TrainingError(
                "blurring at the start of training (--cfg stylegan3-r) is not in this loss; choose another --cfg"
            )
        self.D, self.processes, self.D_ema_kimg = D, processes, D_ema_kimg
        self.weights = embedding_weight, embedding_weight_later, embedding_later_kimg
        self.nimg = 0
        self._moving = False  # stylegan3 updates the running means of G in one phase only
        mapping, synthesis = (G_mapping, G_synthesis) if G is None else self._of_stylegan3(G)
        options = {name: value for name, value in options.items() if name not in UNUSED}
        self.loss = DirectionLoss(device, mapping, synthesis, D, augment_pipe, **options)
        self.loss.stats = _Reported()
        if fresh:
            first = (G_mapping if G is None else G.mapping).fc0
            first.weight.data[:, : D.z_dim] *= latent_weights(D.z_dim).to(first.weight)
        if D.average is None:
            D.__dict__["average"] = copy.deepcopy(D)
        D.average.to(device).eval().requires_grad_(False)

    def _of_stylegan3(self, G: torch.nn.Module) -> tuple[Any, Any]:
        def mapping(z: torch.Tensor, c: torch.Tensor, skip_w_avg_update: bool = False) -> torch.Tensor:
            return G.mapping(z, c, update_emas=self._moving and not skip_w_avg_update)

        return mapping, lambda ws: G.synthesis(ws, update_emas=self._moving)

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        gain: float,
        sync: bool = True,
        cur_nimg: int | None = None,
    ) -> None:
        """`DirectionLoss.accumulate_gradients`, as the loops call it.

        Args:
            phase: as there; so are the five arguments that follow.
            real_img: real pictures.
            real_c: their labels.
            gen_z: latents.
            gen_c: their labels.
            gain: a factor on the loss.
            sync: unused; stylegan2-ada-pytorch tells by it when processes exchange gradients.
            cur_nimg: the pictures shown so far, as stylegan3 tells; without it they are counted here.
        """
        first, later, kimg = self.weights
        self.nimg = self.nimg if cur_nimg is None else cur_nimg
        self.loss.embedding_weight = first if self.nimg < kimg * 1000 else later
        self._moving = phase in ("Dmain", "Dboth")
        self.loss.accumulate_gradients(phase, real_img, real_c, gen_z, gen_c, gain)
        if self._moving:
            self._average(len(real_img) * self.processes)

    @torch.no_grad()
    def _average(self, shown: int) -> None:
        half_life = min(self.D_ema_kimg * 1000, self.nimg / 20)
        beta = 0.5 ** (shown / max(half_life, 1e-8))
        pairs = zip(self.D.average.parameters(), self.D.parameters())
        for average, value in pairs:
            average.lerp_(value, 1 - beta)
        for average, value in zip(self.D.average.buffers(), self.D.buffers()):
            average.copy_(value)
        self.nimg += shown


def replaced(arguments: Mapping[str, Any], **embedding: float) -> Any:
    """The arguments of an official ``training_loop`` for a run with this project's discriminator and loss.

    Args:
        arguments: the arguments, as the repository's ``train.py`` makes them; a copy is changed.
        embedding: arguments of `HeadLoss` of the same names.

    Raises:
        TrainingError: stylegan2-ada-pytorch is to run on several GPUs.
    """
    new = copy.deepcopy(arguments)
    processes, start = new.get("num_gpus", 1), new.get("resume_pkl")
    for_stylegan3 = "training.networks_stylegan" in new["G_kwargs"]["class_name"]
    if processes > 1 and not for_stylegan3:
        raise TrainingError(
            "stylegan2-ada-pytorch wraps its networks on several GPUs, which this discriminator cannot be in; use one GPU, or "
            "stylegan3's train.py with --cfg=stylegan2"
        )
    new["D_kwargs"].update(class_name=D_CLASS, z_dim=new["G_kwargs"].get("z_dim", 512), start=start)
    ema_kimg = new.get("ema_kimg", 10)
    new["loss_kwargs"].update(
        class_name=LOSS_CLASS, fresh=start is None, processes=processes, D_ema_kimg=ema_kimg, **embedding
    )
    return new
