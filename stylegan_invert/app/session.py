"""What one user does on the page, without the page: choose a network, project a photograph, edit it, take the files along.

Each `Session` reads its own networks and has its own folder, so sessions share nothing that changes.
"""

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..analysis.paths import between
from ..editing.finding import pca, sefa
from ..editing.mixing import mixed
from ..editing.outputs import Move, edited
from ..errors import StyleganInvertError, printable
from ..files.door import PICTURE, opened
from ..files.writing import safe_name, staged
from ..generator import Code, GeneratorAdapter, class_label
from ..generator.directions import Direction, layer_count
from ..io.codes import write_code
from ..io.gaussian_file import statistics_path, with_gaussian
from ..media.face_finder import FaceFinder
from ..media.medium import medium_of
from ..media.pictures import write_png
from ..media.reading import PictureReading
from ..media.video import write_mp4
from ..network_files.file import NetworkFile
from ..projectors.methods import Method, default_method
from ..projectors.projection import Projection, render_rounded
from ..projectors.projector import Projector
from ..projectors.settings import TuningOptions, build_options
from ..projectors.tuning import Tuner
from .offer import Offer, default_layer, methods_of, option_names
from .work import Cancelled, Work

FITS = {"crop": "square in the centre", "pad": "filled up to a square", "align": "cut out the face"}
"""How a photograph becomes a square: the names, and what they mean. "align" needs the extra ``align``."""

EVERY = 0.25  # seconds between two pictures of a search, at least
SHARE = 0.25  # of the time goes into these pictures, at most
FOUND = 6  # directions of each kind that `Session.find_directions` finds
NO_NETWORK = "no network is chosen; choose one first"
CANCELLED = "Cancelled; the picture is the one from before."
FRAMES = 31  # pictures of a video, from the picture to the edit


class SessionError(StyleganInvertError, ValueError):
    """Something that cannot be done now, and what to do first."""


class Progress(NamedTuple):
    """How far a piece of work is.

    Attributes:
        number: the steps that were taken.
        total: the steps that are planned at most; 0 if that is not known.
        what: what is being done, in a few words.
        distance: the distance before the last step; None while there is none.
        picture: the picture now, (C, R, R) uint8; None if there is no newer one.
    """

    number: int
    total: int
    what: str
    distance: float | None = None
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Edit:
    """An edit of the picture. What it says is done in the order of the attributes; the defaults change nothing.

    Attributes:
        mix_with: a seed, or "kept" for the picture that `Session.keep` kept; None mixes nothing.
        mix_layers: the first and the last layer that are taken from it.
        strengths: how far to move along each direction, in the order of `Session.directions`; those left out are 0.
        layers: the first and the last layer that directions move; None leaves each direction its own.
        truncation_psi: see `GeneratorAdapter.truncated`; 1 changes nothing.
        tau: see `GeneratorAdapter.compressed`; None compresses nothing.
    """

    mix_with: int | str | None = None
    mix_layers: tuple[int, int] = (0, 0)
    strengths: Sequence[float] = ()
    layers: tuple[int, int] | None = None
    truncation_psi: float = 1.0
    tau: float | None = None


@dataclass(frozen=True)
class Photograph:
    """A photograph that was uploaded.

    Attributes:
        path: its copy in the session's folder.
        reading: how it becomes a square: options of `media.reading.PictureReading`.
    """

    path: Path
    reading: dict[str, Any] = field(default_factory=dict)


class Session:
    """The work of one user. Its methods may be called from several threads; what takes long reports and can be cancelled.

    Args:
        offer: the networks, directions and device of the server.
        root: the folder in which the session makes its own; None takes the system's temporary folder.

    Attributes:
        net: the network file that was chosen.
        methods: the methods of the network, by name; {} before one is chosen.
        directions: the directions of the network.
        code: the code (1) that edits begin with; None before there is one.
        result: the projection that it comes from; None for a seed.
        kept: the code (1) that was kept for style mixing, or None.
        tuned: True if the network was tuned to the picture.
    """

    def __init__(self, offer: Offer, root: str | os.PathLike | None = None):
        self.offer = offer
        self.folder = Path(tempfile.mkdtemp(prefix="session-", dir=root))
        self.net: NetworkFile | None = None
        self._generator: GeneratorAdapter | None = None
        self.methods: dict[str, Method] = {}
        self.directions: list[Direction] = []
        self.photograph: Photograph | None = None
        self.kept: Code | None = None
        self._original: GeneratorAdapter | None = None
        self._projector: Projector | None = None
        self._work: Work[Progress] | None = None
        self._one_at_a_time = threading.RLock()
        self._forget()

    @property
    def projection(self) -> Projection:
        """The projection that the picture comes from.

        Raises:
            SessionError: it comes from none.
        """
        if self.result is None:
            raise SessionError("no photograph was projected; project one first")
        return self.result

    def _forget(self) -> None:
        """Forget the picture, as another network needs another code."""
        self.code: Code | None = None
        self.result: Projection | None = None
        self.tuned = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        return self  # a session is one user's, and has threads and networks, so there is no second one like it

    def close(self) -> None:
        """End what is under way, and remove the session's folder. It is safe to call this twice."""
        self.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The network

    def choose(self, name: str) -> None:
        """Take another network of the offer.

        Raises:
            SessionError: there is none of this name, or work is under way.
            NetworkFileError: it cannot be read, or makes no pictures.
        """
        names = self.offer.names()
        if name not in names:
            raise SessionError(f"there is no network {printable(name, 100)!r}; choose one of {', '.join(names)}")
        self._open(names[name])

    def read_network(self, path: str | os.PathLike) -> None:
        """Take a network from a file that was uploaded. It is read as data.

        Raises:
            SessionError: the server's owner does not allow it, or work is under way.
            NetworkFileError: as for `choose`.
        """
        if not self.offer.uploads:
            raise SessionError(
                "network files are not taken here; the server's owner may start it with --allow-networks"
            )
        self._open(path)

    def _open(self, source: str | os.PathLike) -> None:
        with self._idle():
            net, generator = self.offer.open(source)
            if "v" in generator.spaces and not generator.c_dim and statistics_path(generator).exists():
                generator = with_gaussian(generator)
            directions = self.offer.directions_of(generator)
            if self.kept is not None and (self._original is None or _other(generator, self._original)):
                self.kept = None
            self.net, self._generator, self._original, self.directions = net, generator, generator, directions
            self.methods, self._projector = methods_of(net, generator), None
            self._forget()

    @property
    def generator(self) -> GeneratorAdapter:
        """What draws the pictures: the network's generator, or the tuned one.

        Raises:
            SessionError: no network is chosen.
        """
        if self._generator is None:
            raise SessionError(NO_NETWORK)
        return self._generator

    def _net(self) -> NetworkFile:
        if self.net is None:
            raise SessionError(NO_NETWORK)
        return self.net

    @property
    def default_method(self) -> str:
        """The method that is taken if none is named."""
        generator = self.generator
        return default_method(generator.spaces, generator.dense)

    def layers_for(self, method: str) -> list[str]:
        """The layers at which a method can split the network, the usual one first; [] for methods that do not split it."""
        found = self.methods.get(method)
        first = None if found is None else default_layer(self.generator, found)
        return [] if first is None else list(dict.fromkeys([first, *self.generator.layers()]))

    @property
    def num_layers(self) -> int:
        """The number of layers that have a w of their own; 1 for networks without w, which mix no styles."""
        return layer_count(self.generator)

    @property
    def mixes_styles(self) -> bool:
        """True if the network has w, which style mixing and truncation need."""
        return "w+" in self.generator.spaces

    @property
    def has_v(self) -> bool:
        """True if the network has a V space, in which codes can be compressed."""
        return "v" in self.generator.spaces

    @property
    def compresses(self) -> bool:
        """True if the Gaussian of V, which compression needs, is known."""
        return self.has_v and self.generator.has_gaussian(self._class())

    def _class(self) -> Any:
        """The label (1, c_dim) of the picture's class; None for a network without classes, or without a picture."""
        return None if self.code is None or self.code.c is None else self.code.c.to(self.generator.device)

    # The picture

    def open_picture(self, path: str | os.PathLike, fit: str = "crop", name: str | None = None) -> np.ndarray:
        """Take a photograph as the target.

        Args:
            path: the file, which is copied.
            fit: one of `FITS`.
            name: its name, for errors and records; None takes that of the path.

        Returns:
            The target (C, R, R) uint8, as the network sees it.

        Raises:
            ImageFileError: it cannot be read, or no face was found in it.
            SessionError: work is under way, or no network is chosen.
        """
        if fit not in FITS:
            raise SessionError(f"fit is {printable(str(fit), 50)!r}; expected one of {', '.join(FITS)}")
        with self._idle():
            kept = self.folder / "photograph" / safe_name(name or Path(path).name)
            with opened(path, PICTURE, kept.name) as source, _emptied(kept.parent), open(kept, "wb") as copy:
                shutil.copyfileobj(source, copy)
            self.photograph = Photograph(kept, self._align(kept) if fit == "align" else {"fit": fit})
            return self.target()

    def _align(self, picture: Path) -> dict[str, str]:
        """The reading options that cut out the largest face."""
        face, _ = FaceFinder(str(self.generator.device)).find(picture, picture.name)
        if face is None:
            raise SessionError(f"{picture.name}: no face was found in it; choose another way to make it square")
        path = self.folder / "landmarks.json"
        path.write_text(json.dumps(face.points.round(3).tolist()))
        return {"align": str(path)}

    def target(self) -> np.ndarray:
        """The photograph at the network's size, (C, R, R) uint8.

        Raises:
            ImageFileError: it cannot be read.
            SessionError: there is none.
        """
        photograph = self._photograph()
        return medium_of(self.generator).read(photograph.path, PictureReading(**photograph.reading))[0]

    def _photograph(self) -> Photograph:
        if self.photograph is None:
            raise SessionError("there is no photograph; drop one first")
        return self.photograph

    def draw(self, seed: int, class_idx: int | None = None) -> np.ndarray:
        """Take the picture (C, R, R) uint8 of a seed, to edit it.

        Args:
            seed: from 0 to 2**32 - 1.
            class_idx: the class, for a network that has classes.
        """
        with self._idle():
            generator = self._original or self.generator
            code = _of_seed(generator, seed, class_label(generator, class_idx))
            picture = render_rounded(generator, code)
            self._forget()
            self._generator, self.code = generator, code
            return picture

    # Work that takes long

    def project(
        self,
        method: str | None = None,
        *,
        steps: int | None = None,
        seed: int | None = None,
        class_idx: int | str | None = None,
        layer: str | None = None,
    ) -> Iterator[Progress]:
        """Project the photograph. Iterate to let it run; the last report has the result's picture, as it is saved.

        Args:
            method: a name in `methods`; None takes `default_method`.
            steps: the number of steps, of each search where a method has two; None takes the method's.
            seed: the random seed; None takes the method's.
            class_idx: the class, or "search", for a network that has classes.
            layer: where a method that splits the network does so; None takes the first of `layers_for`.

        Raises:
            Cancelled: `cancel` was called. The picture and the edits are those of before.
            SessionError: there is no photograph, or the network has no such method.
            ValueError: as for `projectors.project`.
        """
        name = method or self.default_method
        if name not in self.methods:
            names = ", ".join(self.methods)
            raise SessionError(f"this network has no method {printable(name, 50)!r}; choose one of {names}")
        known = option_names(self.methods[name])
        options: dict[str, Any] = {key: steps for key in ("steps", "layer_steps") if steps is not None and key in known}
        options |= {} if seed is None else {"seed": seed}
        options |= {} if class_idx is None else {"class_idx": class_idx}
        layers = self.layers_for(name)
        options |= {"layer": layer or layers[0]} if layers else {}

        def work(report: Callable[[Progress], None]) -> None:
            photograph, net = self._photograph(), self._net()
            self.target()  # an unreadable photograph is reported before the network is prepared

            def preparing(done: int, total: int) -> None:
                report(Progress(done, total, "measuring the network, which is done once"))

            projector = Projector(net, name, progress=preparing, **options)
            watch = _Watch(projector, report)
            (result,) = projector.project([photograph.path], callback=watch, **photograph.reading)
            steps, last = len(result.distance), float(result.distance[-1])
            report(Progress(steps, steps, "done", last, result.image.numpy()))
            self._take(result, projector)

        return self._running(work)

    def tune(self, steps: int | None = None) -> Iterator[Progress]:
        """Tune the network to the photograph (Pivotal Tuning Inversion). The code stays. The last report has the picture.

        Args:
            steps: the most steps; None takes the usual number.

        Raises:
            Cancelled: `cancel` was called. The network is that of before.
            SessionError: there is no projection to tune to.
            ValueError: the options make no sense.
        """
        result = self.projection
        if self._projector is None:
            raise SessionError("tuning needs a photograph that was projected; project one first")
        tuner = Tuner(self._projector, build_options(TuningOptions, {}, {"tune": steps}))

        def work(report: Callable[[Progress], None]) -> None:
            def step(_: int, step: Any) -> None:
                report(Progress(step.number, step.total, "tuning the network", float(step.distance.mean())))

            (tuned,) = tuner([result.pivot or result], step)
            report(Progress(tuner.steps, tuner.steps, "done", None, tuned.image.numpy()))
            self.result, self._generator, self.tuned = tuned, tuned.generator, True

        return self._running(work)

    def find_directions(self) -> Iterator[Progress]:
        """Find directions: the principal components of V, and those that change styles most. V is measured first.

        They are added to `directions`, after which there is also what compression needs. For a network with classes these
        are those of the picture's class.

        Raises:
            Cancelled: `cancel` was called.
            ValueError: the network has no such directions.
        """

        def work(report: Callable[[Progress], None]) -> None:
            original, c = self._original or self.generator, self._class()

            def measuring(done: int, total: int) -> None:
                report(Progress(done, total, "measuring V, which is done once"))

            report(Progress(0, 0, "finding directions"))
            found: list[Direction] = []
            if self.has_v:
                original = with_gaussian(original, c, progress=measuring)
                found += pca(original, range(min(FOUND, original.gaussian(c).rank)), c=c)
            (shape,) = original.code_shapes("z").values()
            found += sefa(original, range(min(FOUND, *shape)), c=c)
            known = {(one.name, one.space) for one in self.directions}
            self.directions += [one for one in found if (one.name, one.space) not in known]
            if self.has_v:
                self._generator = self.generator.with_gaussian(c, original.gaussian(c))
                self._original = original

        return self._running(work)

    def cancel(self) -> bool:
        """End the work that is under way, and wait for the step that it is at. True if there was any."""
        work = self._work
        if work is None:
            return False
        work.cancel()
        work.wait()
        self._ended(work)
        return True

    def _ended(self, work: Work[Progress]) -> None:
        if self._work is work:
            self._work = None

    @property
    def busy(self) -> bool:
        """True while work is under way."""
        return self._work is not None

    def _running(self, function: Callable[[Callable[[Progress], None]], None]) -> Iterator[Progress]:
        """The reports of work, which begins when the first one is asked for."""
        with self._idle():
            self._work = work = Work(function)
        try:
            yield from work
        finally:
            self._ended(work)

    @contextlib.contextmanager
    def _idle(self) -> Iterator[None]:
        """A context manager for what must not happen while work is under way, and not twice at once.

        Raises:
            SessionError: work is under way.
        """
        with self._one_at_a_time:
            if self._work is not None:
                raise SessionError("a search is under way; wait until it is done, or cancel it first")
            yield

    def _take(self, result: Projection, projector: Projector) -> None:
        """Take a result as the picture that is edited."""
        self._forget()
        self.result, self._projector = result, projector
        self._generator = self._original = projector.generator if result.generator is None else result.generator
        self.code = result.code.without_noise().to(self.generator.device)

    # Edits

    def keep(self) -> None:
        """Keep the picture's code for style mixing.

        Raises:
            SessionError: there is no picture.
        """
        self.kept = self._picture()

    def _picture(self) -> Code:
        if self.code is None:
            raise SessionError("there is no picture to edit; project a photograph or draw a seed first")
        return self.code

    def edited(self, edit: Edit) -> Code:
        """The code (1) of the picture after an edit.

        Raises:
            SessionError: there is no picture, nothing was kept, or V was not measured.
            ValueError: the network has no space for this edit.
        """
        code, generator = self._picture(), self.generator
        if edit.mix_with is not None:
            first, last = edit.mix_layers
            code = mixed(generator, code, self._other(edit.mix_with), range(first, min(last, self.num_layers - 1) + 1))
        layers = None if edit.layers is None else range(edit.layers[0], min(edit.layers[1], self.num_layers - 1) + 1)
        moves = [Move(direction, strength, layers) for direction, strength in zip(self.directions, edit.strengths)]
        code = edited(generator, code, moves)
        if edit.truncation_psi != 1:
            code = generator.truncated(code, edit.truncation_psi)
        if edit.tau is None:
            return code
        if not self.compresses:
            raise SessionError("compression needs the Gaussian of V, which is not measured yet; find directions first")
        return generator.compressed(code, edit.tau)

    def _other(self, named: int | str) -> Code:
        if named != "kept":
            return _of_seed(self.generator, int(named), self._class())
        if self.kept is None:
            raise SessionError("no picture was kept for mixing; keep one first, or mix with a seed")
        return self.kept

    def edit(self, edit: Edit) -> np.ndarray:
        """The picture (C, R, R) uint8 after an edit. It is that which `export` writes.

        Raises:
            SessionError: as for `edited`, or work is under way.
        """
        with self._idle():
            return render_rounded(self.generator, self.edited(edit))

    # Files

    def export(self, edit: Edit) -> list[Path]:
        """Write the edited picture (edited.png), its code as ``project`` writes codes, a video from the picture to the edit
        and back (edit.mp4, if the edit changes anything) and the tuned network (if it was tuned).

        Returns:
            The files, in the session's folder, where the next call replaces them.

        Raises:
            SessionError: as for `edited`, or work is under way.
            OSError: the files cannot be written.
        """
        with self._idle():
            generator, before, after = self.generator, self._picture(), self.edited(edit)
            folder = self.folder / "files"
            shutil.rmtree(folder, ignore_errors=True)
            with staged(folder) as inside:
                write_png(inside / "edited.png", render_rounded(generator, after))
                write_code(inside, after, generator)
                if after is not before:
                    line = between(generator, before, after, np.linspace(0, 1, FRAMES).tolist())
                    pictures = [render_rounded(generator, code) for code in line]
                    write_mp4(inside / "edit.mp4", iter(pictures + pictures[-2:0:-1]))
                if self.tuned and self.result is not None:
                    self.result.tuned.write(folder, inside)
            return sorted(folder.iterdir())

    def sentence(self, error: BaseException) -> str:
        """An error as a sentence for the page, without the names of folders on the server."""
        if isinstance(error, Cancelled):
            return CANCELLED
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            return "Error: the memory is too small for this; choose a smaller network."
        if isinstance(error, (StyleganInvertError, ValueError)):
            text = str(error)
        elif isinstance(error, OSError):
            text = error.strerror or str(error)
        else:
            text = f"{type(error).__name__}: {error}. This is a mistake in stylegan-invert, please report it"
        for folder in (self.folder / "photograph", self.folder):
            text = text.replace(f"{folder}{os.sep}", "")
        return f"Error: {printable(text, 400)}"


class _Watch:
    """A callback of a search: reports each step, and now and then the picture, so that drawing takes a small share."""

    def __init__(self, projector: Projector, report: Callable[[Progress], None]):
        self.projector, self.report = projector, report
        self.next = 0.0  # the time at which the next picture is due

    def __call__(self, _: int, step: Any) -> None:
        picture, now = None, time.monotonic()
        if now >= self.next:
            picture = render_rounded(self.projector.generator, step.code.without_noise()[:1])
            took = time.monotonic() - now
            self.next = now + took + max(EVERY, took * (1 - SHARE) / SHARE)
        self.report(Progress(step.number, step.total, "searching", float(step.distance[0]), picture))


def _of_seed(generator: GeneratorAdapter, seed: int, c: Any) -> Code:
    """The code (1) in "z" that official tools draw for a seed."""
    if not 0 <= seed < 2**32:
        raise SessionError(f"the seed is {seed}; expected a whole number from 0 to {2**32 - 1}")
    (shape,) = generator.code_shapes("z").values()
    return Code("z", {"z": generator.prior.of_seed(seed, [1, *shape])}, c).to(generator.device)


def _other(generator: GeneratorAdapter, before: GeneratorAdapter) -> bool:
    """True if codes of one network mean nothing in the other."""
    return generator.code_sha256() != before.code_sha256()


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A context manager that makes a folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield
