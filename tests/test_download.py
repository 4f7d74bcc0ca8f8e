"""Downloads: cached, checked, whole or absent. From a server on this machine."""
# Takes at most 10 CPU seconds.

import concurrent.futures
import contextlib
import functools
import gzip
import http.server
import json
import threading
import time
from typing import ClassVar

import pytest
import torch

import stylegan_invert as si
from stylegan_invert.files.writing import sha256_of_file
from stylegan_invert.io import download as downloads
from stylegan_invert.io.download import SHORT_NAMES, cached_path, download, shown_url

FILE = bytes(range(256)) * 100  # what the server has under /file


class Server(tuple):
    """(address, folder), with the server itself as ``httpd``."""

    def __new__(cls, *parts):
        return super().__new__(cls, parts)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; and answers under the names below, each of which goes wrong in its own way."""

    asked: ClassVar[list] = []  # (path, Range) of every request

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, length=True, **headers):
        self.send_response(status)
        if length:
            self.send_header("Content-Length", len(body) if length is True else length)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def do_GET(self):
        name = self.path.partition("?")[0].strip("/")
        self.asked.append((name, self.headers.get("Range")))
        action = getattr(self, f"do_{name}", None)
        super().do_GET() if action is None else action()

    def do_cut(self):  # announces more than it sends
        self.answer(b"x" * 10, length=1000)

    def do_html(self):
        self.answer(b"\n<!DOCTYPE html><title>log in</title>", Content_Type="application/octet-stream")

    def do_typed(self):
        self.answer(b"log in", Content_Type="text/html; charset=utf-8")

    def do_json(self):
        self.answer(b'{"message": "not found"}')

    def do_pointer(self):
        self.answer(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")

    def do_empty(self):
        self.answer(b"")

    def do_204(self):
        self.answer(b"", 204)

    def do_206(self):
        self.answer(b"abc", 206, Content_Range="bytes 5-7/8")

    def do_length(self):
        self.answer(b"abc", length="abc")

    def do_negative(self):
        self.answer(b"abc", length="-3")

    def do_huge(self):
        self.answer(b"abc", length=10**15)

    def do_endless(self):
        self.answer(b"", length=False)
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(bytes(1 << 16))

    def do_drip(self):  # a byte now and then
        self.answer(b"", length=1000)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)

    def do_head(self):  # headers that never end
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                self.wfile.write(b"H")
                time.sleep(0.05)

    def do_bomb(self):
        self.answer(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")

    def do_gzip(self):
        self.answer(gzip.compress(FILE), Content_Encoding="gzip")

    def do_halfgzip(self):
        self.answer(gzip.compress(FILE)[:-20], Content_Encoding="gzip")

    def do_nogzip(self):
        self.answer(b"no gzip", Content_Encoding="gzip")

    def do_brotli(self):
        self.answer(b"xxx", Content_Encoding="br")

    def do_elsewhere(self):
        self.answer(b"", 302, Location="file:///etc/passwd")

    def do_circle(self):
        self.answer(b"", 302, Location="/circle")

    def do_broken(self):  # sends half of the file at first, and the other half when asked for it
        first = int(self.headers.get("Range", "bytes=0-")[6:-1])
        about = {"ETag": self.server.etag, "Accept_Ranges": "bytes"}
        if first and self.headers.get("If-Range") == self.server.etag:
            content = f"bytes {first}-{len(FILE) - 1}/{len(FILE)}"
            self.answer(FILE[first:], 206, Content_Range=content, **about)
        elif self.server.whole:
            self.answer(FILE, **about)
        else:
            self.answer(FILE[: len(FILE) // 2], length=len(FILE), **about)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "www").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
        Handler.asked.clear()
        httpd.etag, httpd.whole = '"1"', False
        server = Server(f"http://127.0.0.1:{httpd.server_port}", tmp_path / "www")
        server.httpd = httpd
        yield server
        httpd.shutdown()


def test_a_network_is_fetched_once_and_its_checksum_recorded(server, tiny_file):
    url, www = server
    (www / "net.pkl").write_bytes(tiny_file.read_bytes())
    assert si.load(f"{url}/net.pkl").sha256 == sha256_of_file(tiny_file)
    (www / "net.pkl").unlink()
    assert si.load(f"{url}/net.pkl").G.img_resolution == 8  # from the cache
    path = cached_path(f"{url}/net.pkl")
    assert json.loads(path.with_name(path.name + ".json").read_text())["sha256"] == sha256_of_file(tiny_file)
    path.write_bytes(b"changed")
    with pytest.raises(si.DownloadError, match="Delete it to download it again"):
        si.load(f"{url}/net.pkl")


WRONG = {
    "nothing": "the server answered 404",
    "cut": "after 10 of 1,000 bytes the connection ended",
    "html": "a page or a message in place of a file",
    "typed": "a page in place of a file",
    "json": "a page or a message",
    "pointer": "a page or a message",
    "empty": "the server sent nothing",
    "204": "the server answered 204",
    "206": "the server answered 206",
    "length": "Content-Length is 'abc'",
    "negative": "Content-Length is '-3'",
    "huge": "more than 17,179,869,184 bytes",
    "halfgzip": "the connection ended after",
    "nogzip": "compression is damaged",
    "brotli": "encoding 'br'",
    "elsewhere": "does not begin with http:// or https://",
    "circle": "leads in a circle",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_whole_file_is_not_kept(server, name):
    url = f"{server[0]}/{name}"
    with pytest.raises(si.DownloadError) as e:
        download(url)
    assert url in str(e.value) and WRONG[name] in str(e.value) and str(cached_path(url)) in str(e.value)
    assert list(cached_path(url).parent.iterdir()) == []


@pytest.mark.parametrize("name", ["endless", "bomb"])
def test_what_never_ends_is_cut_off_by_its_size(server, name, monkeypatch):
    monkeypatch.setattr(downloads, "DOWNLOAD", downloads.Kind("a download", 1_000_000, si.DownloadError))
    with pytest.raises(si.DownloadError, match="more than 1,000,000 bytes"):
        download(f"{server[0]}/{name}")
    assert list(cached_path(server[0]).parent.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [("drip", "bytes in 0.4 seconds"), ("head", "did not answer in time")])
def test_a_server_that_is_too_slow_is_left(server, name, reason):
    began = time.monotonic()
    with pytest.raises(si.DownloadError, match=reason):
        download(f"{server[0]}/{name}", patience=0.4)
    assert time.monotonic() - began < 3
    assert list(cached_path(server[0]).parent.iterdir()) == []


def test_a_compressed_answer_is_the_file(server):
    assert download(f"{server[0]}/gzip").read_bytes() == FILE


def test_a_download_goes_on_where_it_ended(server):
    url = f"{server[0]}/broken"
    for _ in range(2):
        with pytest.raises(si.DownloadError, match="after 12,800 of 25,600 bytes the connection ended"):
            download(url)
        folder = cached_path(url).parent
        assert not cached_path(url).exists() and len(list(folder.iterdir())) == 2  # half a file, and its version
        server.httpd.etag += "2"  # the file has changed, so the second attempt begins anew
    server.httpd.etag = server.httpd.etag[:-1]
    assert download(url).read_bytes() == FILE
    asked = [part for _, part in Handler.asked]
    assert asked == [None, "bytes=12800-", None, "bytes=12800-"]
    assert sorted(p.name for p in folder.iterdir()) == [cached_path(url).name, cached_path(url).name + ".json"]


def test_a_version_that_is_not_certain_begins_anew(server):
    url = f"{server[0]}/broken"
    server.httpd.etag = 'W/"1"'  # says that the files mean the same, not that their bytes are equal
    with pytest.raises(si.DownloadError, match="connection ended"):
        download(url)
    assert list(cached_path(url).parent.iterdir()) == []


@pytest.mark.parametrize("record", ["[" * 100_000, "5", '{"validator": 5}', "", '{"validator": "\\r\\nX: y"}'])
def test_a_damaged_note_of_the_version_begins_anew(server, record):
    url = f"{server[0]}/broken"
    with pytest.raises(si.DownloadError, match="connection ended"):
        download(url)
    (note,) = [p for p in cached_path(url).parent.iterdir() if p.suffix == ".json"]
    note.write_text(record)
    server.httpd.whole = True
    assert download(url).read_bytes() == FILE and Handler.asked[-1] == ("broken", None)


def test_two_at_once_download_once(server):
    (server[1] / "a").write_bytes(b"\x80abc")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: download(f"{server[0]}/a"), range(4)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == b"\x80abc"
    assert Handler.asked == [("a", None)]


@pytest.mark.parametrize("record", ["[" * 100_000, '{"sha256": 5}', "[]", "", '{"sha256": "x"}'])
def test_a_damaged_record_is_made_anew(server, record):
    (server[1] / "a").write_bytes(b"\x80abc")
    path = download(f"{server[0]}/a")
    kept = path.with_name(path.name + ".json")
    good = kept.read_text()
    kept.write_text(record)
    assert download(f"{server[0]}/a") == path and kept.read_text() == good


def test_a_network_that_is_built_later_names_the_downloaded_file(server, tiny_file):
    (server[1] / "net.pkl").write_bytes(tiny_file.read_bytes().replace(b"Discriminator", b"Dascriminator"))
    net = si.load(f"{server[0]}/net.pkl")
    assert net.G.img_resolution == 8
    with pytest.raises(
        si.NetworkFileError, match="of class 'Dascriminator'.*It was downloaded to .*; delete that file"
    ):
        _ = net.D


SECRET = "http://user:hunter2@127.0.0.1:{}/net.pkl?token=hunter2#hunter2"


def test_what_is_secret_in_a_url_is_neither_shown_nor_stored(server, tiny_file, tmp_path):
    url = SECRET.format(server.httpd.server_port)
    with pytest.raises(si.DownloadError) as e:
        si.load(url)
    assert "hunter2" not in str(e.value) and f"{server[0]}/net.pkl: " in str(e.value)
    (server[1] / "net.pkl").write_bytes(b"\x80 no network")
    with pytest.raises(si.NetworkFileError) as e:
        si.load(url)
    assert "hunter2" not in str(e.value) and f"to {cached_path(url)}; delete that file" in str(e.value)
    cached_path(url).unlink()
    cached_path(url).with_name(cached_path(url).name + ".json").unlink()
    (server[1] / "net.pkl").write_bytes(tiny_file.read_bytes())
    net = si.load(url)
    result = si.project(net, torch.zeros(3, 8, 8, dtype=torch.uint8), "w", steps=1, loss="mse")
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["network"]["file"] == f"{server[0]}/net.pkl"
    for path in [p for folder in (tmp_path / "out", tmp_path / "cache") for p in folder.rglob("*") if p.is_file()]:
        assert b"secret" not in path.read_bytes().lower() and "hunter2" not in str(path)
    assert cached_path(url) != cached_path(url.replace("hunter2", "other"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a/b", "http://a/b"),
        ("HTTPS://u:p@[::1]:80/b?x#y", "HTTPS://[::1]:80/b"),
        ("http://u:p@ss@a/b", "http://a/b"),
        ("http://user:pa/ss@host/b", "http://..."),
        ("http://[::1/b?token=x", "http://..."),
        ("a/b?c#d", "a/b?c#d"),
    ],
)
def test_the_shown_part_of_a_url(url, expected):
    assert shown_url(url) == expected


@pytest.mark.parametrize("url", ["http://[::1/x", "http://", "http://a:b/x", "http:///x", f"http://{'a' * 300}/x"])
def test_what_is_no_address_is_said(server, url):
    with pytest.raises(si.DownloadError, match="could not download http.*: .*save it as"):
        download(url)


def test_names_of_cached_files_are_short_and_visible(server):
    for end in ("..", "x" * 500, "\x1b[2J", "%00", ""):
        name = cached_path(f"{server[0]}/{end}").name
        assert name.isprintable() and len(name) < 140 and len(name) > 13


def test_a_pinned_checksum_is_held_against(server):
    url, www = server
    (www / "a").write_bytes(b"abc")
    with pytest.raises(si.DownloadError, match="expected 0000"):
        download(f"{url}/a", sha256="0000")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert download(f"{url}/a", sha256=digest).read_bytes() == b"abc"


def test_nobody_there_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path))
    with pytest.raises(si.DownloadError) as e:
        download("http://127.0.0.1:9/net.pkl")
    assert "could not download http://127.0.0.1:9/net.pkl" in str(e.value) and str(
        cached_path("http://127.0.0.1:9/net.pkl")
    ) in str(e.value)


def test_short_names_are_official_addresses():
    assert SHORT_NAMES["ffhq"] == "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl"
    assert all(url.startswith("https://") and url.endswith(".pkl") for url in SHORT_NAMES.values())
