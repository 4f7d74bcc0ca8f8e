"""The page of ``stylegan-invert app`` in headless Chromium, end to end: pip install 'stylegan-invert[app]' playwright."""
# Takes at most 90 CPU seconds.

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.editing.finding import sefa
from stylegan_invert.generator import adapt
from stylegan_invert.generator.directions import of_step
from stylegan_invert.io.codes import read_codes
from stylegan_invert.io.direction_file import write_direction
from stylegan_invert.media.pictures import read_png
from stylegan_invert.projectors.projection import render_rounded

from official import HERE

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytest.importorskip(
    "gradio", reason="needs the package gradio (pip install 'stylegan-invert[app]')", exc_type=ImportError
)
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright", exc_type=ImportError)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the PATH"),
]

HOSTILE = "<img src=x onerror=alert(1)>"
SECONDS = 60_000  # milliseconds to wait at most, for machines that are busy
EXPECTED = re.compile("Method not implemented")  # a warning of Gradio's own


class Browser:
    """A page in the browser, and what went wrong on it."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
        self.page.set_default_timeout(SECONDS)
        self.wrong, self.dialogs, self.foreign = [], [], []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("dialog", lambda d: (self.dialogs.append(d.message), d.dismiss()))
        self.page.on("request", lambda r: self._asked(r.url, address))
        self.page.goto(address)
        self.status("The network is ready")

    def _said(self, message):
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.wrong.append(message.text)

    def _asked(self, url, address):
        if not url.startswith((address, "data:", "blob:")):
            self.foreign.append(url)

    def status(self, *texts):
        """Wait until the status begins with one of some texts; the status."""
        script = "texts => texts.some(t => document.querySelector('#status textarea')?.value.startsWith(t))"
        self.page.wait_for_function(script, arg=list(texts))
        return self.page.locator("#status textarea").input_value()

    def upload(self, path):
        self.page.locator("#photograph input[type=file]").set_input_files(path)

    def picture(self, name):
        return self.page.locator(f"#{name} img").get_attribute("src")

    def changed(self, name, before):
        """Wait until a picture is another one."""
        self.page.wait_for_function(
            "([name, before]) => { const i = document.querySelector(`#${name} img`); return i && i.src != before; }",
            arg=[name, before],
        )

    def tab(self, name):
        self.page.get_by_role("tab", name=name).click()

    def clean(self):
        assert (self.wrong, self.dialogs, self.foreign) == ([], [], [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of 8x8 pixels with a direction of a hostile name, and pictures."""
    from conftest import make_network

    folder = tmp_path_factory.mktemp("app")
    si.save(make_network(resolution=8), folder / "tiny.pkl")
    generator = adapt(si.load(folder / "tiny.pkl").G)
    (found,) = sefa(generator, [0])
    (folder / "directions").mkdir()
    hostile = of_step(HOSTILE, "w", found.step, generator, {})
    write_direction(folder / "directions" / "hostile.safetensors", hostile)
    ramp = torch.arange(40 * 30 * 3).reshape(30, 40, 3) % 251
    PIL.Image.fromarray(ramp.to(torch.uint8).numpy()).save(folder / f"{HOSTILE}.png")
    (folder / "broken.png").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 256, [700, 700, 3], dtype=np.uint8)
    PIL.Image.fromarray(noise).save(folder / "large.png")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """The address of a server with this network; it is ended by SIGTERM, and must leave no file behind."""
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "stylegan_invert", "app", "-n", str(folder / "tiny.pkl")]
    command += ["--directions", str(folder / "directions"), "--port", "7981", "--max-upload", "1M"]
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    environment["GRADIO_IS_E2E_TEST"] = (
        "1"  # what belongs to a closed page is removed after a second, not after an hour
    )
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE.parent, env=environment)
    line = server.stderr.readline()
    assert line.startswith("the page is at http://127.0.0.1:7981/"), line + server.stderr.read()
    yield line.split()[4]
    server.send_signal(signal.SIGTERM)
    _, rest = server.communicate(timeout=60)
    assert rest == "stopped\n" and server.returncode == 0
    assert not list(scratch.iterdir())


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    opened = Browser(chromium, address)
    yield opened
    opened.page.close()


def projected(page, folder):
    """Upload the picture and project it with the method w in a few steps."""
    page.upload(folder / f"{HOSTILE}.png")
    page.status("img src")
    page.page.get_by_text("Options of the method").click()
    page.page.get_by_label("Steps (empty: the method's own)").fill("5")
    page.page.get_by_label("Steps (empty: the method's own)").press("Tab")
    page.page.click("#project")
    return page.status("Done in", "Error")


def test_a_photograph_is_projected_edited_and_taken_along(page, folder, tmp_path):
    assert projected(page, folder).startswith("Done")
    assert page.page.locator("#curve svg polyline").count() == 1
    slider = page.page.get_by_role("slider", name=f"range slider for {HOSTILE}")
    before = page.picture("edited")
    slider.focus()
    page.page.keyboard.press("ArrowRight")
    page.changed("edited", before)
    assert page.page.locator("img[src=x]").count() == 0
    page.tab("Download")
    page.page.click("#export")
    page.status("3 files are ready")
    files = {}
    for link in page.page.locator("#files a[download]").all():
        with page.page.expect_download() as download:
            link.click()
        files[download.value.suggested_filename] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[download.value.suggested_filename])
    assert sorted(files) == ["edit.mp4", "edited.png", "projected_w.npz"]
    generator = adapt(si.load(folder / "tiny.pkl").G)
    assert np.array_equal(
        render_rounded(generator, read_codes(files["projected_w.npz"])), read_png(files["edited.png"])
    )
    page.clean()


def test_cancel_ends_a_search_and_the_server_goes_on(page, folder):
    page.upload(folder / f"{HOSTILE}.png")
    page.status("img src")
    page.page.get_by_text("Options of the method").click()
    page.page.get_by_label("Steps (empty: the method's own)").fill("1000000")
    page.page.get_by_role("combobox", name="Method").click()
    page.page.get_by_role("option", name="w (one w for all layers").click()
    page.page.click("#project")
    page.status("Searching")
    page.page.click("#cancel")
    page.status("Cancelled; the picture is the one from before.")
    page.page.wait_for_timeout(1000)
    assert page.status("Cancelled")
    page.page.get_by_text("Without a photograph").click()
    page.page.click("#draw")
    page.status("The picture of seed 1")
    page.clean()


def test_bad_uploads_are_one_sentence(page, folder):
    page.upload(folder / "broken.png")
    assert re.fullmatch(r"Error: broken\.png: it is not a picture[^\n]*", page.status("Error"))
    page.page.get_by_label("Clear", exact=False).first.click()
    page.upload(folder / "large.png")
    page.page.get_by_text("maximum allowed size", exact=False).first.wait_for()
    assert not [text for text in page.wrong if "size" not in text and "413" not in text]
    assert page.dialogs == page.foreign == []


def test_a_page_that_is_closed_ends_its_search_and_its_files_go(chromium, address, folder):
    first, second = Browser(chromium, address), Browser(chromium, address)
    first.upload(folder / f"{HOSTILE}.png")
    first.status("img src")
    first.page.get_by_text("Options of the method").click()
    first.page.get_by_label("Steps (empty: the method's own)").fill("1000000")
    first.page.get_by_role("combobox", name="Method").click()
    first.page.get_by_role("option", name="w (one w for all layers").click()
    first.page.click("#project")
    first.status("Searching")
    sessions = set((folder / "scratch").glob("*/session-*"))
    first.page.close()
    assert projected(second, folder).startswith("Done")  # one search at a time, so the other one has ended
    second.page.close()
    for _ in range(60):
        if not sessions & set((folder / "scratch").glob("*/session-*")):
            break
        time.sleep(1)
    assert sessions and not sessions & set((folder / "scratch").glob("*/session-*"))


def test_a_port_that_is_taken_is_one_sentence(address, folder):
    command = [sys.executable, "-m", "stylegan_invert", "app", "-n", str(folder / "tiny.pkl"), "--port", "7981"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=300)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "port 7981 is taken" in result.stderr and "--port" in result.stderr


def test_the_page_is_used_with_keys_alone(page, folder):
    """Tab reaches everything in turn, Enter opens the photograph and presses buttons, and arrow keys move sliders."""
    keyboard, reached = page.page.keyboard, []

    def tab_to(name):
        focused = "() => { const e = document.activeElement; return e.closest('[id]')?.id || e.tagName; }"
        for _ in range(40):
            keyboard.press("Tab")
            reached.append(page.page.evaluate(focused))
            if reached[-1] == name:
                return
        raise AssertionError(f"{name} is not among {reached}")

    # The browser is asked to report choosers of files now, since playwright does not wait until it has heard of it.
    page.page.on("filechooser", lambda chooser: None)
    tab_to("photograph")
    with page.page.expect_file_chooser() as chooser:
        keyboard.press("Enter")
    chooser.value.set_files(folder / f"{HOSTILE}.png")
    page.status("img src")
    page.page.locator("body").evaluate("e => document.activeElement.blur()")
    tab_to("project")
    keyboard.press("Enter")
    page.status("Done in")
    tab_to("range_id_0")
    before = page.picture("edited")
    keyboard.press("ArrowLeft")
    page.changed("edited", before)
    page.clean()
