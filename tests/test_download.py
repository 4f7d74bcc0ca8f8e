"""Downloads: cached, checked, whole or absent. From a server on this machine."""
# Takes at most 5 CPU seconds.

import functools
import http.server
import json
import threading

import pytest

import stylegan_invert as si
from stylegan_invert.files.writing import sha256_of_file
from stylegan_invert.io.download import SHORT_NAMES, cached_path, download


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path.startswith("/cut"):  # announces more than it sends
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "www").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", tmp_path / "www"
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


@pytest.mark.parametrize("path, reason", [("nothing", "404"), ("cut", "cut: ")])
def test_what_does_not_arrive_whole_is_not_kept(server, path, reason):
    url, _ = server
    with pytest.raises(si.DownloadError) as e:
        download(f"{url}/{path}")
    assert f"{url}/{path}" in str(e.value) and reason in str(e.value)
    folder = cached_path(f"{url}/{path}").parent
    assert list(folder.iterdir()) == []


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
