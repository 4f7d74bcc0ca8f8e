"""The page about results: everything is on it, in one file, and nothing in a name or record becomes HTML."""
# Takes at most 8 CPU seconds.

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

import stylegan_invert as si
from stylegan_invert.analysis import report
from stylegan_invert.analysis.report import LARGEST, write_report
from stylegan_invert.media.pictures import write_png
from stylegan_invert.projectors import Projection

from conftest import make_network

HOSTILE = "<img src=x onerror=alert(1)>&{script}\u202e"


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with attributes, and texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three results, one of which is damaged, and a sheet; one result has a hostile name and a hostile record."""
    root = tmp_path_factory.mktemp("report")
    target = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    result = si.project(make_network(8), target, "w", steps=3, loss="mse")
    for name in ("a", "b", HOSTILE):
        result.save(root / name)
    (root / "b" / "proj.png").write_bytes(b"nothing")
    record = json.loads((root / HOSTILE / "result.json").read_text())
    record["network"]["file"] = "</script><script>alert(2)</script>"
    record["metrics"]["psnr"] = None
    (root / HOSTILE / "result.json").write_text(json.dumps(record))
    write_png(root / "a" / "sheet.png", np.zeros([3, 8, 40], np.uint8))
    write_png(root / "strip.png", np.zeros([3, 8, 8 * LARGEST], np.uint8))
    return root


def test_the_page(folder, tmp_path):
    path, count = write_report(folder)
    assert (path, count) == (folder / "report.html", 2)
    text = path.read_text()
    page = Page(text)
    shown = "".join(page.texts)
    assert "<img src=x onerror=alert(1)>&{script}\\u202e" in shown and "\u202e" not in text
    assert "b is left out: " in shown and "proj.png: it is not a picture" in shown
    assert "</script><script>alert(2)</script>" in shown and len(page.all("script")) == 1
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert (
        all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
        and len(page.all("img")) == 6
    )
    assert [a["data-of"] for a in page.all("input")] == ["c0", "c1"] or len(page.all("input")) == 2
    results = [Projection.read(folder / name) for name in (HOSTILE, "a")]
    cells = [a["data-value"] for a in page.all("td") if "data-value" in a]
    assert float(cells[0]) == results[0].metrics["lpips"] if results[0].metrics["lpips"] is not None else cells[0] == ""
    assert "" in cells  # the PSNR that is not known
    policy = page.all("meta")[1]["content"]
    (script,) = re.findall(r"<script>(.*)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "http" not in re.sub(r'"data:[^"]*"', "", text).replace("http-equiv", "")


def test_pictures_of_many_results_are_small(folder, tmp_path, monkeypatch):
    """All of them together have a limited number of pixels; here three results have two each."""
    monkeypatch.setattr(report, "PIXELS", 6 * 4 * 4)
    write_report(folder, tmp_path / "page.html")
    pictures = [image["src"] for image in Page((tmp_path / "page.html").read_text()).all("img") if image["alt"]]
    sizes = [PIL.Image.open(io.BytesIO(base64.b64decode(p.partition(",")[2]))).size for p in pictures]
    assert sizes == [(4, 4)] * 4


def test_the_command(folder, tmp_path, cli):
    code, _, err = cli("report", folder, "-o", tmp_path / "page.html")
    assert code == 0 and "2 results" in err and (tmp_path / "page.html").exists()
    code, _, err = cli("report", tmp_path / "nothing")
    assert code == 1 and "there is no result.json in it" in err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on the PATH")
def test_a_browser_runs_its_script_and_nothing_else(folder, tmp_path):
    path, _ = write_report(folder, tmp_path / "page.html")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom"]
    result = subprocess.run(["chromium", *options, path.as_uri()], capture_output=True, text=True, timeout=120)
    assert result.stdout.count("--cut: 50%") == 2
    assert "CONSOLE" not in result.stderr and result.stdout.count("<script") == 1
