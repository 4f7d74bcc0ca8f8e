"""The page, in Gradio: it shows a `Session` and calls it. Texts from outside are shown as text, never as HTML."""

import functools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import PIL.Image
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ..errors import printable
from ..media.pictures import to_pil
from .offer import Offer
from .session import CANCELLED, FITS, Edit, Progress, Session, SessionError

SLIDERS = 24  # directions that the page has sliders for
STRONGEST = 4.0  # the ends of these sliders
MANY_LAYERS = 99  # the end of sliders of layers before a network is chosen
MANY_POINTS = 400  # of the curve of a search; when there are more, every second one is left out
SHOWN_EVERY = 0.15  # seconds between two reports of progress
CLEANED = (600, 3600)  # seconds: how often Gradio looks for old files, and how old they are then

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")  # fonts of the system, so none is fetched

STYLE = """
.gradio-container { max-width: 1240px !important; margin: auto !important; }
.picture img { width: 100% !important; height: 100% !important; object-fit: contain; }
.curve { min-height: 56px; }
.curve svg { width: 100%; height: 56px; display: block; }
"""

TITLE = "stylegan-invert"
ABOUT = """# stylegan-invert
Find the code from which a network makes your photograph, then edit the photograph through its code."""

MEASURES = ("lpips", "psnr", "ssim")
NOTHING, SEED, KEPT = "nothing", "a seed", "the kept picture"
SEARCHED = "search"  # the text for a class that is searched for

Update = dict[Any, Any]  # from components to their new values


class Page:
    """The page for an offer.

    Args:
        offer: what the server offers.
        root: the folder for the folders of sessions.

    Attributes:
        blocks: Gradio's application.
    """

    def __init__(self, offer: Offer, root: str):
        self.offer, self.root = offer, root
        self.names = list(offer.names())
        self.sessions: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=CLEANED) as self.blocks:
            self.session = gr.State(None, delete_callback=_close)
            gr.Markdown(ABOUT)
            with gr.Row():
                with gr.Column(scale=4, min_width=300):
                    self._make_input()
                with gr.Column(scale=7, min_width=380):
                    self._make_pictures()
                    with gr.Tabs(overflow_behavior="wrap"):
                        self._make_tabs()
            self._connect()

    # What is on the page

    def _make_input(self) -> None:
        """The network, the photograph, and the search."""
        self.network = gr.Dropdown(self.names, value=self.names[0], label="Network")
        self.network_file = gr.File(label="or a network file of yours", height=120, visible=self.offer.uploads)
        self.photograph = gr.File(label="Photograph", height=150, elem_id="photograph")
        fits = [(text, name) for name, text in FITS.items()]
        self.fit = gr.Radio(fits, value="crop", label="How it becomes a square")
        self.method = gr.Dropdown([], label="Method")
        with gr.Accordion("Options of the method", open=False):
            self.steps = _number("Steps (empty: the method's own)")
            self.seed = _number("Random seed (empty: the method's own)")
            self.layer = gr.Dropdown([], label="Layer at which the method splits the network", visible=False)
            self.class_idx = _number('Class: its number, or "search"', visible=False)
        with gr.Row():
            self.project = gr.Button("Project", variant="primary", elem_id="project")
            self.cancel = gr.Button("Cancel", variant="stop", elem_id="cancel")
        with gr.Accordion("Without a photograph", open=False):
            self.drawn_seed = gr.Number(1, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            self.draw = gr.Button("Draw its picture", elem_id="draw")

    def _make_pictures(self) -> None:
        with gr.Row():
            self.target = _picture("Target", "target")
            self.picture = _picture("Found", "picture")
            self.after = _picture("Edited", "edited")
        self.status = gr.Textbox(label="Status", interactive=False, lines=1, max_lines=4, elem_id="status")
        self.curve = gr.HTML("", elem_classes=["curve"], elem_id="curve")

    def _make_tabs(self) -> None:
        with gr.Tab("Directions"):
            with gr.Row():
                self.find = gr.Button("Find directions", size="sm", elem_id="find")
                self.reset = gr.Button("Reset all edits", size="sm", elem_id="reset")
            with gr.Row():
                sliders = [_slider(-STRONGEST, STRONGEST, 0.1, f"Direction {i}", visible=False) for i in range(SLIDERS)]
            with gr.Accordion("Layers that directions move", open=False):
                own_layers = gr.Checkbox(False, label="Move only the layers below")
                first, last = self._range()
        with gr.Tab("Style mixing"):
            mix = gr.Radio([NOTHING, SEED, KEPT], value=NOTHING, label="Take some layers from")
            mix_seed = gr.Number(2, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            self.keep = gr.Button("Keep the found picture for mixing", size="sm", elem_id="keep")
            self.kept = _picture("Kept picture", "kept", height=140)
            mix_first, mix_last = self._range()
        with gr.Tab("Truncation and compression"):
            psi = _slider(
                0, 1.5, 0.01, "Truncation psi: 1 leaves the picture as it is, 0 is the network's mean", value=1
            )
            compress = gr.Checkbox(False, label="Compress large components in V", interactive=False)
            tau = _slider(0.05, 3, 0.05, "Compression tau: smaller values compress more", value=1)
        with gr.Tab("Tune"):
            gr.Markdown(
                "Moves the weights of a copy of the network until its picture fits the photograph; the code stays. Edits "
                "then begin nearer to the photograph."
            )
            self.tune_steps = _number("Steps (empty: the usual 350, or 1,000 of a BigGAN)")
            self.tune = gr.Button("Tune the network", elem_id="tune")
        with gr.Tab("Download"):
            gr.Markdown(
                "The edited picture, its code, a video from the picture to the edit and back, and the network if it was tuned."
            )
            self.export = gr.Button("Make the files", elem_id="export")
            self.files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="files")
        self.controls = Controls(
            sliders, own_layers, first, last, mix, mix_seed, mix_first, mix_last, psi, compress, tau
        )

    @staticmethod
    def _range() -> tuple[gr.Slider, gr.Slider]:
        """Sliders for the first and the last of some layers."""
        with gr.Row():
            return tuple(_slider(0, MANY_LAYERS, 1, f"{which} layer") for which in ("First", "Last"))

    # What happens on it

    def _connect(self) -> None:
        """Connect the components with the functions below."""
        values = self.controls.all
        edit = [self.status, self.after]
        work = [*edit, self.curve, self.picture, *self.controls.sliders, self.controls.compress]
        network = [*work, self.session, self.target, self.kept, self.files, self.network, self.method, self.layer]
        network += [self.class_idx, self.keep, *values]
        # One search at a time on a server. Others wait in a queue, and their place in it is shown at the status.
        one = {"concurrency_id": "search", "concurrency_limit": 1, "show_progress": "minimal"}
        one["show_progress_on"] = self.status
        quick = {"show_progress": "hidden", "concurrency_limit": 4}

        def on(
            trigger: Any, function: Any, inputs: list[Any], outputs: list[Any], wrap: Any = self._guarded, **how: Any
        ) -> Any:
            outputs = list(dict.fromkeys(outputs))
            return trigger(wrap(function), [self.session, *inputs], outputs, **{**PRIVATE, **quick, **how})

        self.blocks.load(self.begin, None, list(dict.fromkeys(network)), **PRIVATE)
        self.blocks.unload(self.leave)
        on(self.network.input, self.choose, [self.network], network)
        on(self.network_file.upload, self.read_network, [self.network_file], network)
        on(self.method.input, self.choose_method, [self.method], [self.status, self.layer])
        for trigger in (self.photograph.upload, self.fit.input):
            on(trigger, self.open, [self.photograph, self.fit], [self.status, self.target])
        on(self.draw.click, self.draw_seed, [self.drawn_seed, self.class_idx, *values], work)
        chosen = [self.method, self.steps, self.seed, self.class_idx, self.layer, *values]
        searches = [
            on(self.project.click, self.search, chosen, work, self._guarded_work, **one),
            on(self.tune.click, self.tune_network, [self.tune_steps, *values], work, self._guarded_work, **one),
            on(self.find.click, self.find_directions, [], work, self._guarded_work, **one),
        ]
        on(self.cancel.click, self.stop, [], [self.status, self.picture], cancels=searches, queue=False)
        on(self.keep.click, self.keep_picture, [], [self.status, self.kept])
        on(self.reset.click, self.reset_edits, [], [*work, *values])
        on(self.export.click, self.make_files, values, [self.status, self.files], show_progress="minimal")
        for control in values:
            event = control.change if isinstance(control, gr.Number) else control.input
            on(event, self.edit, values, edit, trigger_mode="always_last", queue=False)

    def _guarded(self, function: Callable[..., Update]) -> Callable[..., Update]:
        """A function of the page whose errors become a sentence in the status."""

        @functools.wraps(function)
        def guarded(session: Session | None, *values: Any) -> Update:
            if session is None:
                return {self.status: "Error: this page was left alone for too long; load it again."}
            try:
                return function(session, *values)
            except Exception as e:
                return {self.status: session.sentence(e)}

        return guarded

    def _guarded_work(self, function: Callable[..., Iterator[Update]]) -> Callable[..., Iterator[Update]]:
        """`_guarded`, for a function that yields updates."""

        @functools.wraps(function)
        def guarded(session: Session | None, *values: Any) -> Iterator[Update]:
            if session is None:
                yield {self.status: "Error: this page was left alone for too long; load it again."}
                return
            try:
                yield from function(session, *values)
            except Exception as e:
                yield {self.status: session.sentence(e), **self._before(session)}

        return guarded

    def begin(self, request: gr.Request) -> Update:
        """A page was opened."""
        session = Session(self.offer, self.root)
        self.sessions[request.session_hash] = session
        return {self.session: session, **self._guarded(self.choose)(session, self.names[0])}

    def leave(self, request: gr.Request) -> None:
        """A page was closed: what it waited for is cancelled. Gradio removes the session an hour later."""
        session = self.sessions.get(request.session_hash)
        if session is not None:
            session.cancel()

    def choose(self, session: Session, name: str) -> Update:
        """A network was chosen."""
        session.choose(name)
        return self._of_network(session)

    def read_network(self, session: Session, path: str) -> Update:
        """A network file was uploaded."""
        session.read_network(path)
        return {**self._of_network(session), self.network: None}

    def _of_network(self, session: Session) -> Update:
        """Everything on the page that depends on the network."""
        method, last = session.default_method, max(session.num_layers - 1, 1)
        c = self.controls
        ends = {one: gr.update(maximum=last, value=0) for one in (c.first, c.mix_first)}
        ends |= {
            one: gr.update(maximum=last, value=last if one is c.last else last // 2) for one in (c.last, c.mix_last)
        }
        return {
            self.method: gr.update(
                choices=[(_described(session, name), name) for name in session.methods], value=method
            ),
            self.class_idx: gr.update(visible=bool(session.generator.c_dim)),
            **self._of_method(session, method),
            **self._sliders(session, value=0),
            **self._switch(session, value=False),
            **ends,
            c.mix: gr.update(value=NOTHING, interactive=session.mixes_styles),
            c.psi: gr.update(value=1, interactive=session.mixes_styles),
            self.keep: gr.update(interactive=session.mixes_styles),
            **({} if session.kept is not None else {self.kept: None}),
            self.target: None if session.photograph is None else shown(session.target()),
            self.picture: None,
            self.after: None,
            self.files: None,
            self.curve: "",
            self.status: f"The network is ready: pictures of {session.generator.output_shape[1]} pixels. Drop a photograph "
            "and press Project, or draw a seed.",
        }

    def choose_method(self, session: Session, method: str) -> Update:
        """A method was chosen."""
        return self._of_method(session, method)

    def _of_method(self, session: Session, method: str) -> Update:
        layers = session.layers_for(method)
        return {self.layer: gr.update(choices=layers, value=layers[0] if layers else None, visible=len(layers) > 1)}

    def _sliders(self, session: Session, **value: float) -> Update:
        """The sliders of directions."""
        names = [one.name for one in session.directions[:SLIDERS]]
        return {
            slider: gr.update(visible=i < len(names), label=names[i] if i < len(names) else "", **value)
            for i, slider in enumerate(self.controls.sliders)
        }

    def _switch(self, session: Session, **value: bool) -> Update:
        """The switch of compression."""
        missing = "" if not session.has_v or session.compresses else " (first find directions, which measures V)"
        label = f"Compress large components in V{missing}"
        return {self.controls.compress: gr.update(interactive=session.compresses, label=label, **value)}

    def open(self, session: Session, path: str | None, fit: str) -> Update:
        """A photograph was uploaded, or is to become a square in another way."""
        if path is None:
            return {}
        target = session.open_picture(path, fit)
        return {self.target: shown(target), self.status: f"{printable(os.path.basename(path), 100)}: press Project."}

    def draw_seed(self, session: Session, seed: float | None, class_idx: str, *values: Any) -> Update:
        """The picture of a seed is asked for."""
        c = _class(session, class_idx)
        if isinstance(c, str):
            raise SessionError("the picture of a seed needs the number of a class")
        seed = int(seed or 0)
        picture = {self.picture: shown(session.draw(seed, c)), self.curve: ""}
        return {
            **picture,
            **self._switch(session),
            **self._after(session, values),
            self.status: f"The picture of seed {seed}.",
        }

    def search(
        self,
        session: Session,
        method: str,
        steps: str,
        seed: str,
        class_idx: str,
        layer: str | None,
        *values: Any,
    ) -> Iterator[Update]:
        """A photograph is to be projected."""
        reports = session.project(
            method,
            steps=_whole(steps, "the number of steps", 1),
            seed=_whole(seed, "the seed"),
            class_idx=_class(session, class_idx),
            layer=layer,
        )
        yield from self._follow(reports)
        seconds = session.projection.record["seconds"]
        done = f"Done in {seconds:.1f} s{measured(session.projection.metrics)}. Move the sliders to edit the picture."
        yield {**self._switch(session), **self._after(session, values), self.status: done}

    def tune_network(self, session: Session, steps: str, *values: Any) -> Iterator[Update]:
        """The network is to be tuned."""
        yield from self._follow(session.tune(_whole(steps, "the number of steps", 1)))
        tuned = session.projection
        now = measured(tuned.metrics)
        before = measured(tuned.pivot.metrics) if tuned.pivot is not None else ""
        done = f"The network is tuned{now}; before{before}. It is among the downloads."
        yield {**self._after(session, values), self.status: done}

    def find_directions(self, session: Session) -> Iterator[Update]:
        """Directions are to be found."""
        before = len(session.directions)
        yield from self._follow(session.find_directions())
        found = len(session.directions) - before
        yield {**self._sliders(session), **self._switch(session), self.status: f"{found} directions were added below."}

    def _follow(self, reports: Iterator[Progress]) -> Iterator[Update]:
        """Show the progress of work, a few times a second."""
        points: list[tuple[int, float]] = []
        what, due = "", 0.0
        for report in reports:
            if report.distance is not None:
                points.append((report.number, report.distance))
                if len(points) > MANY_POINTS:
                    del points[1::2]
            now = time.monotonic()
            if now < due and report.picture is None and report.what == what:
                continue
            what, due = report.what, now + SHOWN_EVERY
            picture = {} if report.picture is None else {self.picture: shown(report.picture)}
            yield {**picture, self.curve: curve(points), self.status: _in_words(report)}

    def stop(self, session: Session) -> Update:
        """Cancel was pressed. Work that still waits in Gradio's queue is taken out of it by Gradio."""
        session.cancel()
        return {self.status: CANCELLED, **self._before(session)}

    def _before(self, session: Session) -> Update:
        """The picture of before, after work was cancelled or has failed."""
        if session.busy:
            return {}
        return {self.picture: None if session.code is None else shown(session.edit(Edit()))}

    def keep_picture(self, session: Session) -> Update:
        """The picture is to be kept for style mixing."""
        session.keep()
        picture = shown(session.edit(Edit()))
        return {self.kept: picture, self.status: "The picture is kept. Take another one, and mix it with this."}

    def reset_edits(self, session: Session) -> Update:
        """All edits are to be undone."""
        c = self.controls
        undone = {
            **self._sliders(session, value=0),
            **self._switch(session, value=False),
            c.own_layers: False,
            c.mix: NOTHING,
            c.psi: 1,
        }
        return undone if session.code is None else {**undone, self.after: shown(session.edit(Edit()))}

    def edit(self, session: Session, *values: Any) -> Update:
        """A slider was moved."""
        return {} if session.code is None else self._after(session, values)

    def make_files(self, session: Session, *values: Any) -> Update:
        """Files are asked for."""
        paths = session.export(edit_of(session, values))
        return {self.files: [str(path) for path in paths], self.status: f"{len(paths)} files are ready."}

    def _after(self, session: Session, values: Sequence[Any]) -> Update:
        """The picture after the edit that the controls ask for."""
        return {self.after: shown(session.edit(edit_of(session, values)))}


class Controls(NamedTuple):
    """The controls of an edit, in the order of their values; see `edit_of`."""

    sliders: list[Any]
    own_layers: Any
    first: Any
    last: Any
    mix: Any
    mix_seed: Any
    mix_first: Any
    mix_last: Any
    psi: Any
    compress: Any
    tau: Any

    @property
    def all(self) -> list[Any]:
        """The controls in one list."""
        return [*self.sliders, *self[1:]]


def edit_of(session: Session, values: Sequence[Any]) -> Edit:
    """The edit that the values of `Controls.all` ask for, as far as the network has it."""
    strengths, (own_layers, first, last, mix, seed, mix_first, mix_last, psi, compress, tau) = (
        values[:SLIDERS],
        values[SLIDERS:],
    )
    mix_with = {NOTHING: None, SEED: int(seed or 0), KEPT: "kept"}[mix]
    styles = session.mixes_styles
    return Edit(
        mix_with=mix_with if styles else None,
        mix_layers=(int(mix_first), int(mix_last)),
        strengths=tuple(float(x) for x in strengths[: len(session.directions)]),
        layers=(int(first), int(last)) if own_layers and styles else None,
        truncation_psi=float(psi) if styles else 1.0,
        tau=float(tau) if compress and session.compresses else None,
    )


def shown(pixels: np.ndarray) -> PIL.Image.Image:
    """A picture (C, H, W) uint8 as the page takes it."""
    return to_pil(pixels)


def measured(metrics: Mapping[str, Any]) -> str:
    """The measures of similarity in brackets, as far as they could be taken."""
    found = [f"{name.upper()} {metrics[name]:.3g}" for name in MEASURES if isinstance(metrics.get(name), float)]
    return f" ({', '.join(found)})" if found else ""


def curve(points: Sequence[tuple[int, float]]) -> str:
    """The distances of a search, as points (step, distance), as a line in SVG. There is nothing in it but numbers."""
    if len(points) < 2:
        return ""
    distances = [distance for _, distance in points]
    first, last, low, high = points[0][0], points[-1][0], min(distances), max(distances)
    across, down = 300 / max(last - first, 1), 52 / ((high - low) or 1)
    line = " ".join(f"{(step - first) * across:.1f},{56 - (x - low) * down:.1f}" for step, x in points)
    return (
        '<svg viewBox="0 0 300 60" preserveAspectRatio="none" role="img" aria-label="The distance over the steps">'
        f'<polyline points="{line}" fill="none" stroke="#f97316" stroke-width="1.5" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def _in_words(report: Progress) -> str:
    what = report.what[:1].upper() + report.what[1:]
    number = f": {report.number:,} of {report.total:,}" if report.total else ""
    return f"{what}{number}{'' if report.distance is None else f', distance {report.distance:.4f}'}"


def _described(session: Session, name: str) -> str:
    """A method with a few words about it."""
    about = session.methods[name].about
    return f"{name} ({about})" if about else name


def _whole(text: str, what: str, least: int = 0) -> int | None:
    """The whole number that a text names; None for an empty text.

    Raises:
        SessionError: it names none, or a smaller one than ``least``.
    """
    text = text.strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise SessionError(f"{what} is {text[:20]!r}; expected a whole number of at least {least}, or nothing")
    return int(text)


def _class(session: Session, text: str) -> int | str | None:
    """The class that a text names: a number, or "search"; None for an empty text, and for a network without classes."""
    if not session.generator.c_dim:
        return None
    return SEARCHED if text.strip() == SEARCHED else _whole(text, "the class")


def _close(session: Session | None) -> None:
    if session is not None:
        session.close()


def _picture(label: str, name: str, height: int = 260) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        height=height,
        buttons=[],
        image_mode=None,
        elem_id=name,
        elem_classes=["picture"],
        alt_text=label,
    )


def _number(label: str, visible: bool = True) -> gr.Textbox:
    """A field for a number that may be left empty; Gradio's own field for numbers makes 0 of that."""
    return gr.Textbox("", label=label, visible=visible, max_lines=1, max_length=20)


def _slider(low: float, high: float, step: float, label: str, value: float = 0, visible: bool = True) -> gr.Slider:
    return gr.Slider(low, high, value, step=step, label=label, visible=visible, min_width=300)


PRIVATE = {"api_visibility": "private"}  # the page's functions are not offered to programs


def launch(offer: Offer, root: str, host: str, port: int | None, max_file_size: int) -> tuple[Page, str]:
    """Start the server; it runs in threads of its own.

    Args:
        offer: what the server offers.
        root: an existing folder, in which uploads and the sessions' files lie while the server runs.
        host: the address to listen at; "127.0.0.1" can be reached from this machine only.
        port: the port; None takes the first free one from 7860 on.
        max_file_size: bytes, of each upload.

    Returns:
        The page, whose ``blocks.close()`` ends the server, and its address.

    Raises:
        OSError: the port is taken.
    """
    page = Page(offer, root)
    page.blocks.queue(max_size=64)
    # Another site's page may give its own name this machine's address, and would then be let in by browsers as if it were
    # the same site. So only requests to names of this machine are answered.
    names = ["127.0.0.1", "localhost", "[::1]"] if host in ("127.0.0.1", "localhost", "::1") else ["*"]
    _, local, _ = page.blocks.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        inbrowser=False,
        quiet=True,
        show_error=False,
        max_file_size=max_file_size,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=list(FONTS), font_mono=list(MONO)),
        css=STYLE,
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=names)]},
    )
    return page, local
