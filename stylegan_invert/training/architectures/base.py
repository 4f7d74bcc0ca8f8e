"""What differs between the networks that `gan.GANTrainer` trains: the base class of the architectures, for pictures."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...analysis.distribution import FEWEST, PictureFeatures, distances, generated_pictures
from ...analysis.sheets import grid
from ...errors import TrainingError
from ...files.writing import atomic
from ...generator import adapt
from ...media.picture_set import PictureSet
from ...media.pictures import as_images, generator_pixels, write_png
from ...network_files import safetensors_file
from ...network_files.families.direction_head import direction_tensors
from ...network_files.file import NetworkFile
from ...networks.direction import DirectionDiscriminator
from ...networks.trained_weights import finished, take_weights
from ..gan_losses import GANDirectionLoss, GANLoss
from ..run_options import RunOptions


class Trained(NamedTuple):
    """A network that is trained.

    Attributes:
        name: "G" or "D".
        module: the network.
        interval: its regularisation comes every so many steps.
        weight: the weight of that regularisation; 0 for none.
        groups: the groups of parameters, as optimisers take them, each with its learning rate.
    """

    name: str
    module: torch.nn.Module
    interval: int
    weight: float
    groups: list[dict[str, Any]]


class Architecture:
    """The networks of one kind in training. A subclass says what is not as here.

    Args:
        options: the options of the run.

    Attributes:
        title: the name of such networks in messages.
        ending: the ending of the names of its network files.
        seen: the ending of the names of sample files.
        data_class: the class of training sets, made from a path and the keyword arguments that a `PictureSet` has. A run that
            goes on makes its set from ``data.arguments`` again.
        fixed_by_file: the options that a network file decides, if the run begins with one.
        changeable: the options that `settings_of` takes, because they may differ from those of the file.
        grows: True if networks of a file may go on at a higher resolution.
    """

    title = ""
    ending = ".safetensors"
    seen = ".png"
    data_class: Any = PictureSet
    fixed_by_file: tuple[str, ...] = ()
    changeable: tuple[str, ...] = ()
    grows = False

    def __init__(self, options: RunOptions):
        self.options: Any = options

    # The training set

    @classmethod
    def data(cls, path: str, chosen: dict[str, Any], sizes: dict[str, Any]) -> Any:
        """The training set that options of the command line name.

        Args:
            path: its zip or folder.
            chosen: the options, by name.
            sizes: what a network file, if the run begins with one, decides of it; it is taken out of this dict.
        """
        first, last = chosen["pictures"] or (0, None)
        shape = {"resolution": sizes.pop("resolution"), "channels": sizes.pop("channels", 1 if chosen["grey"] else 3)}
        shape |= {"use_labels": chosen["cond"], "mirror": chosen["mirror"], "first": first, "last": last}
        return cls.data_class(path, **shape)

    def as_outputs(self, batch: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A batch of the training set as the discriminator is shown it."""
        return as_images(batch, device)

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels (N, classes) of the networks for those (N, c_dim) of the training set."""
        return labels

    # The networks

    def build(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Fresh networks in the form in which they are trained, on the CPU; weights come from torch's random state."""
        raise NotImplementedError

    def with_head(self, D: torch.nn.Module) -> torch.nn.Module:
        """A discriminator with the head that the options ask for, if they do."""
        o = self.options
        return D if o.head == "none" else DirectionDiscriminator(D, o.z_dim, o.normalize_z)

    def loss(self, device: torch.device, G: torch.nn.Module, D: torch.nn.Module, augment_pipe: Any) -> GANLoss:
        """The loss object of a run."""
        o = self.options
        settings = {"r1_gamma": o.gamma, "adversarial": o.loss, "drift": getattr(o, "drift", 0)}
        if o.head == "none":
            return GANLoss(device, G, D, augment_pipe, **settings)
        return GANDirectionLoss(device, G, D, augment_pipe, embedding_for=o.embedding_for, **settings)

    def trained(self, G: torch.nn.Module, D: torch.nn.Module) -> list[Trained]:
        """The networks that are trained, in the order of their steps."""
        o = self.options
        outputs = [] if o.head == "none" else list(D.outputs.parameters())
        own = {id(p) for p in outputs}
        groups = [{"params": [p for p in D.parameters() if id(p) not in own], "lr": o.rates["D"]}]
        groups += [{"params": outputs, "lr": o.rates.get("head", o.rates["D"])}] if outputs else []
        return [
            Trained("D", D, o.D_reg_interval, o.gamma, groups),
            Trained("G", G, 1, 0, [{"params": list(G.parameters()), "lr": o.rates["G"]}]),
        ]

    def latents(self, n: int, device: torch.device) -> torch.Tensor:
        """Latents (n, z_dim) of torch's random state."""
        return torch.randn([n, self.options.z_dim], device=device)

    def prepare(self, nimg: int, networks: list[torch.nn.Module], phases: list[Any]) -> None:
        """Bring networks and optimisers to the state in which they show the next batch, after ``nimg`` outputs."""

    def real(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the discriminator is shown of real outputs (N, ...)."""
        return outputs

    def regularise(self, name: str, module: torch.nn.Module) -> None:
        """Add to the gradients of "G" or "D" what depends on the weights alone. It is called before each of their steps."""

    def moving(self, G: torch.nn.Module, D: torch.nn.Module) -> list[torch.Tensor]:
        """The tensors besides parameters that a pass changes: statistics, and vectors of power iterations.

        Each round of a step starts from the same ones, and they move by the mean of what the rounds bring.
        """
        return [b for module in (G, D) for b in module.buffers() if b.is_floating_point()]

    # Files

    def finished(self, network: torch.nn.Module) -> torch.nn.Module:
        """A copy of a network as files hold it: on the CPU, in eval mode, without gradients."""
        return finished(copy.deepcopy(network).cpu())

    def shown(self, G: torch.nn.Module, labels: torch.Tensor) -> torch.nn.Module:
        """A copy of a generator that makes outputs to be shown, on its device.

        Args:
            G: the generator in training.
            labels: the labels (N, classes) of the training set.
        """
        return finished(G)

    def network_file(self, trainer: Any, training_set: dict[str, Any] | None = None) -> NetworkFile:
        """The networks of a trainer as they are now."""
        D, extra = self.finished(trainer.D), None
        if trainer.D_ema is not None:
            D, extra = D.trunk, {"direction": direction_tensors(D, self.finished(trainer.D_ema))}
        G_ema = self.finished(self.shown(trainer.G_ema, trainer.labels))
        networks = {"G": self.finished(trainer.G), "D": D, "G_ema": G_ema}
        return NetworkFile(networks, training_set_kwargs=training_set, extra=extra)

    def write(self, trainer: Any, path: Path, training_set: dict[str, Any] | None) -> list[Path]:
        """Write the networks of a trainer to a file, and return all files that were written."""
        with atomic(path) as temporary:
            safetensors_file.write(self.network_file(trainer, training_set), temporary)
        return [path]

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """The settings of the options under which networks of the form of a file's are built.

        Raises:
            TrainingError: they are of another kind.
        """
        raise NotImplementedError

    def start_from(self, trainer: Any, net: NetworkFile) -> None:
        """Give a trainer the weights of a network file.

        Raises:
            TrainingError: its networks are of another kind or of other sizes, or it lacks one.
        """
        G, D = self.finished(trainer.G), self.finished(trainer.D if trainer.D_ema is None else trainer.D.trunk)
        for what, own, other in (("generator", G, net.G), ("discriminator", D, net["D"])):
            if type(other) is not type(own):
                raise TrainingError(
                    f"{net.file}: it has no {what} of the kind that --arch {self.options.arch} trains; training can only go "
                    "on from a file that has both networks"
                )
        if trainer.D_ema is not None and net.D.compares_batch:
            raise TrainingError(
                f"{net.file}: its discriminator compares the pictures of a batch; training cannot go on from it with "
                "--head direction"
            )
        self._take(trainer.G, net["G"] or net.G, net, "G")
        self._take(trainer.G_ema, net.G, net, "G_ema")
        if trainer.D_ema is None:
            return self._take(trainer.D, net["D"], net, "D")
        self._take(trainer.D.trunk, net["D"], net, "D")
        if net.direction is None:
            return self._take(trainer.D_ema.trunk, net["D"], net, "D")
        self._take(trainer.D_ema, net.direction, net, "D_ema")
        self._take(trainer.D.outputs, net.extra["direction"]["outputs"], net, "outputs")
        return None

    def _take(self, module: torch.nn.Module, source: torch.nn.Module | Mapping[str, Any], net: NetworkFile, key: str):
        try:
            take_weights(module, source.state_dict() if isinstance(source, torch.nn.Module) else dict(source))
        except ValueError as e:
            raise TrainingError(f"{net.file}: {key}.{e}. Choose the same sizes and head as the file") from None

    # Samples and measures

    def outputs(self, G: torch.nn.Module, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Outputs (N, ...) of a generator that `shown` gave."""
        return G(z, c)

    def write_samples(self, path: Path, outputs: torch.Tensor) -> None:
        """Write a grid of outputs (side * side, ...) on the CPU."""
        write_png(path, self.sheet(outputs))

    def sheet(self, outputs: torch.Tensor) -> np.ndarray:
        """The grid (C, H, W) uint8 of pictures (side * side, C, R, R)."""
        return grid(np.stack([generator_pixels(x) for x in outputs]), round(len(outputs) ** 0.5))

    def write_reals(self, path: Path, data: Any) -> None:
        """Write a grid of outputs of the training set."""
        side = self.side()
        chosen = np.random.RandomState(0).permutation(len(data.names))[: side * side]
        write_png(path, grid(data.pictures(chosen), side))

    def side(self) -> int:
        """The rows and columns of a grid of samples."""
        return int(np.clip(2048 // self.options.resolution, 3, 8))

    def measures(self, trainer: Any, samples: int) -> dict[str, Any]:
        """Distances of generated outputs to real ones, for the log; empty with too few. They draw no random number.

        Args:
            trainer: the trainer.
            samples: outputs on each side, at most.
        """
        data = trainer.data
        if min(len(data), samples) < FEWEST:
            return {}
        if self._real is None:
            features = PictureFeatures(trainer.device)
            chosen = np.random.RandomState(0).permutation(len(data))[:samples]
            parts = np.array_split(chosen, -(-len(chosen) // 64))
            self._real = features, features.of(torch.from_numpy(data.pictures(part)) for part in parts)
        features, real = self._real
        c = trainer.labels.cpu() if trainer.labels.shape[1] else None
        G = adapt(self.shown(trainer.G_ema, trainer.labels))
        return distances(real, features.of(generated_pictures(G, samples, seed=0, c=c)))

    _real: tuple[PictureFeatures, torch.Tensor] | None = None

    def about_training_set(self, data: Any) -> dict[str, Any]:
        """The record of the training set in a network file, without the path on the machine where it was made."""
        return {
            "path": Path(data.path).resolve().name,
            "pictures": len(data.names),
            "resolution": data.resolution,
            "use_labels": data.c_dim > 0,
            "xflip": data.mirror,
            **({"class_names": list(data.class_names)} if data.class_names else {}),
        }
