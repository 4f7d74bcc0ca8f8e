"""Networks on the Hugging Face Hub, from a stand-in server on this machine (hub_server.py)."""
# Takes at most 12 CPU seconds.

import dataclasses
import importlib.util
import json
import logging
import os
import shlex
import subprocess
import sys

import pytest
import torch
from hub_server import TOKEN, hub

import stylegan_invert as si
from stylegan_invert.cli import main as cli_main
from stylegan_invert.files.door import raise_limits
from stylegan_invert.generator import adapt
from stylegan_invert.generator.directions import of_step
from stylegan_invert.generator.encoding import entries
from stylegan_invert.io import hub as hub_files
from stylegan_invert.io.direction_file import find_direction, read_direction, write_direction
from stylegan_invert.io.encoder_file import ENCODER_FILE, About, read_encoder, write_encoder
from stylegan_invert.io.hub import Address, fetch, parse_address
from stylegan_invert.network_files import safetensors_file
from stylegan_invert.network_files.sources import check
from stylegan_invert.networks.encoder import Encoder

from conftest import make_network
from official import HERE

# huggingface_hub hands bytes to its HTTP package in a way that this calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="needs pip install huggingface-hub (the extra 'hub')"
)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A running stand-in, with a cache and without a token."""
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with hub() as running:
        # The library reads these from the environment when it is imported, which another test may have done.
        for name, value in {
            "ENDPOINT": running.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": running.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        yield running


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A network of 8x8 pixels, and its bytes as safetensors."""
    net = make_network(resolution=8)
    path = tmp_path_factory.mktemp("hub") / "network.safetensors"
    safetensors_file.write(net, path)
    return net, path.read_bytes()


def message(source):
    with pytest.raises(si.DownloadError) as e:
        si.load(source)
    assert TOKEN not in str(e.value) and "\n" not in str(e.value)
    return str(e.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("hf://a/b", Address("a/b", None, None)),
        ("hf://a/b/", Address("a/b", None, None)),
        ("hf://a/b/c d.pkl", Address("a/b", None, "c d.pkl")),
        ("hf://a/b@v1/d/c.pkl", Address("a/b", "v1", "d/c.pkl")),
        ("hf://a/b@refs/pr/1/c.pkl", Address("a/b", "refs/pr/1", "c.pkl")),
        ("hf://a/b@x%2Fy/c.pkl", Address("a/b", "x/y", "c.pkl")),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected
    check(text)


@pytest.mark.parametrize(
    "text", ["hf://", "hf://a", "hf://a/b@", "hf://a/b/../c", "hf://a/b/c//d", "hf://a/b/c\\d", "hf://../b"]
)
def test_malformed_addresses_are_refused_before_anything_is_loaded(text, cli):
    code, _, err = cli("inspect", text)
    assert code == 1 and "expected hf://OWNER/REPOSITORY/FILE" in err and len(err.splitlines()) == 1


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'stylegan-invert[hub]'" in message("hf://me/cats")
    with pytest.raises(si.DownloadError, match="pip install"):
        si.push_to_hub(make_network(resolution=8), "me/cats", "mit")


@needs_library
def test_the_one_network_of_a_repository_is_read_and_kept(server, network, cli):
    net, data = network
    server.add("me/cats", {"README.md": b"cats", "network.safetensors": data, "encoder/encoder.safetensors": b"no"})
    read = si.load("hf://me/cats")
    assert read.file == "hf://me/cats"
    z = torch.randn(1, 8)
    assert torch.equal(read.G(z, None, noise_mode="const"), net.G(z, None, noise_mode="const"))
    assert sum("GET /me/cats/resolve" in line for line in server.asked) == 1
    assert si.load("hf://me/cats/network.safetensors").sha256 == read.sha256
    assert sum("GET /me/cats/resolve" in line for line in server.asked) == 1  # the second time from the cache
    code, out, _ = cli("inspect", "hf://me/cats", "--json")
    assert code == 0 and json.loads(out)["file"] == "hf://me/cats"


@needs_library
def test_revisions_are_told_apart_and_a_commit_needs_no_server(server, network, tiny_file):
    commit = server.add("me/cats", {"network.safetensors": network[1]})
    server.add("me/cats", {"old.pkl": tiny_file.read_bytes()}, "v1")
    server.add("me/cats", {"network.safetensors": network[1]}, "refs/pr/1")
    assert si.load("hf://me/cats@v1").sha256 == si.load(tiny_file).sha256  # the one pickle, read as data
    assert si.load(f"hf://me/cats@{commit}/network.safetensors").D is not None
    assert si.load("hf://me/cats@refs/pr/1").D is not None
    server.broken.add("down")
    server.asked.clear()
    assert si.load(f"hf://me/cats@{commit}/network.safetensors").D is not None
    assert server.asked == []


@needs_library
def test_what_is_in_the_cache_is_used_offline_and_when_the_server_is_down(server, network, monkeypatch):
    from huggingface_hub import constants

    server.add("me/cats", {"network.safetensors": network[1], "README.md": b"x"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so the cache was asked" in message("hf://me/cats/network.safetensors")
    assert server.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    si.load("hf://me/cats")
    server.broken.add("down")
    assert si.load("hf://me/cats").G is not None and si.load("hf://me/cats/network.safetensors").G is not None
    assert "the server answered 503" in message("hf://me/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.asked.clear()
    assert si.load("hf://me/cats").G is not None and server.asked == []
    text = message("hf://me/cats/other.pkl")
    assert "no such file; the cache of it has network.safetensors" in text


@needs_library
@pytest.mark.parametrize(
    "broken, source, expected",
    [
        ("", "hf://me/none", "no such repository, or it is private"),
        ("", "hf://me/secret", "no such repository, or it is private"),
        ("", "hf://me/cats@v9", "no such revision"),
        ("", "hf://me/cats/x.pkl", "no such file; the repository has README.md, network.safetensors"),
        ("", "hf://me/many", "name one; the repository has a.safetensors, b.safetensors"),
        (
            "",
            "hf://me/text",
            "no network file in its top folder; name a file; the repository has README.md, d/a.safetensors",
        ),
        ("gated", "hf://me/cats", "access on request only"),
        ("bytes", "hf://me/cats", "has the SHA-256"),
        ("size", "hf://me/cats", "unless --max-file-size allows more"),
        ("cut", "hf://me/cats", "ended before the whole file had come"),
        ("page", "hf://me/cats", "not that of a Hugging Face Hub"),
    ],
)
def test_errors_are_one_sentence(server, network, monkeypatch, broken, source, expected):
    monkeypatch.setenv("HF_TOKEN", TOKEN[:-1] + "x")
    for name, files in {
        "me/cats": ["README.md", "network.safetensors"],
        "me/secret": ["network.safetensors"],
        "me/many": ["a.safetensors", "b.safetensors"],
        "me/text": ["README.md", "d/a.safetensors"],
    }.items():
        server.add(name, {file: network[1] for file in files})
    server.private.add("me/secret")
    server.broken.update({broken} - {""})
    text = message(source)
    assert expected in text and text.startswith(source.partition("@")[0])
    assert TOKEN[:-1] not in text


@needs_library
def test_no_server_and_a_broken_token(server, network, monkeypatch, caplog):
    server.add("me/cats", {"network.safetensors": network[1]})
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\x01\u20ac")
    with caplog.at_level(logging.DEBUG):
        text = message("hf://me/cats")
    assert "look at HF_TOKEN" in text and TOKEN not in caplog.text
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the server cannot be reached" in message("hf://me/cats")
    assert "hf_..." in message(f"hf://{TOKEN}@me/cats")


@needs_library
def test_a_private_repository_with_its_token(server, network, monkeypatch):
    server.add("me/secret", {"network.safetensors": network[1]})
    server.private.add("me/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert si.load("hf://me/secret").G.img_resolution == 8


@needs_library
def test_a_server_that_sends_more_than_the_limit_is_stopped(server, network, monkeypatch, tmp_path):
    server.add("me/cats", {"network.safetensors": network[1]})
    monkeypatch.setattr(hub_files, "DOWNLOAD", hub_files.DOWNLOAD.__class__("a download", 2**18, si.DownloadError))
    server.broken.add("endless")
    text = message("hf://me/cats")
    assert "unless --max-file-size allows more" in text or "ended before" in text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2**19]
    raise_limits(0)


@needs_library
def test_files_that_belong_to_a_network_come_with_it(server):
    server.add("me/biggan", {"config.json": b"{}", "pytorch_model.bin": b"x", "README.md": b"x"})
    with pytest.raises(si.NetworkFileError, match="it is not a configuration of pytorch-pretrained-BigGAN"):
        si.load("hf://me/biggan")  # both files lie in one folder
    server.add("me/two", {"w/G_ema.pth": b"g", "w/D.pth": b"d", "D.pth": b"other"})
    assert hub_files.fetch_beside("hf://me/two/w/G_ema.pth", "D.pth").read_bytes() == b"d"
    assert hub_files.fetch_beside("hf://me/two/w/G_ema.pth", "state_dict.pth") is None


@needs_library
def test_a_network_goes_to_the_hub_and_comes_back_with_its_card(server, network, tmp_path, cli):
    net, _ = network
    generator = adapt(net.G)
    direction = of_step("a smile | <b>", "w", torch.ones(8), generator, {"way": "test"})
    write_direction(tmp_path / "turn.safetensors", of_step("turn", "z", torch.eye(8)[0], generator, {}))
    encoder = Encoder(3, 8, entries(generator, "w+"), 0, 2, False)
    write_encoder(tmp_path / ENCODER_FILE, encoder, About("w+", generator.sha256(), 1, 1, {}))
    url = si.push_to_hub(
        net,
        "me/cats",
        "cc-by-4.0",
        token=TOKEN,
        private=True,
        title="Small *cats*",
        description="Made by a test.",
        tags=["cats"],
        metrics={"FID": 12.5},
        directions=[direction, tmp_path / "turn.safetensors"],
        encoder=tmp_path / ENCODER_FILE,
    )
    files = server.repositories["me/cats"]["main"]
    assert url.startswith(f"{server.endpoint}/me/cats/commit/")
    assert server.visibility["me/cats"].get("private") or server.visibility["me/cats"].get("visibility") == "private"
    assert sorted(files) == [
        "README.md",
        "directions/a-smile-b.safetensors",
        "directions/turn.safetensors",
        "encoder/encoder.safetensors",
        "network.safetensors",
    ]
    read = si.load("hf://me/cats")
    z = torch.randn(1, 8)
    assert torch.equal(read.G(z, None, noise_mode="const"), net.G(z, None, noise_mode="const")) and read.D is not None
    got = read_direction(find_direction("hf://me/cats/directions/turn.safetensors"), adapt(read.G))
    assert torch.equal(got.vector, torch.eye(8)[0])
    assert read_encoder("hf://me/cats/encoder/encoder.safetensors", adapt(read.G))[1].images == 1
    edited = tmp_path / "edited"
    assert (
        cli(
            "edit",
            "seed:3",
            *"-n hf://me/cats -q --apply hf://me/cats/directions/turn.safetensors:+2 -o".split(),
            edited,
        )[0]
        == 0
    )
    assert (edited / "edited.png").is_file()
    with pytest.raises(si.DownloadError, match="it names no file; the repository has README.md"):
        fetch("hf://me/cats")
    card = files["README.md"].decode()
    head = card.split("---\n")[1]
    assert 'license: "cc-by-4.0"\n' in head and '- "cats"\n' in head and '- "stylegan2"\n' in head
    for text in ("# Small \\*cats\\*", "| FID | 12.5 |", "a smile \\| \\<b\\>", read.sha256, "Made by a test."):
        assert text in card
    check_commands(card)
    exec(card.split("```python\n")[1].split("```")[0], {})


def check_commands(card):
    """Each command of a card is one of this program's, with options that it has."""
    commands = [shlex.split(line) for line in card.splitlines() if line.startswith("stylegan-invert ")]
    assert len(commands) >= 2
    for _, name, *words in commands:
        command = cli_main.cli.get_command(None, name)
        flags = {flag for option in command.params for flag in option.opts}
        assert name in cli_main.COMMANDS and {word for word in words if word.startswith("-")} <= flags


@needs_library
def test_a_folder_is_looked_at_and_then_published(server, network, tmp_path):
    folder = si.write_hub_folder(tmp_path / "out", network[0], "me/dogs", "mit")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "network.safetensors"]
    (folder / "samples.png").write_bytes(b"picture")
    si.push_to_hub(folder, "me/dogs", token=TOKEN)
    assert server.repositories["me/dogs"]["main"]["samples.png"] == b"picture"
    with pytest.raises(ValueError, match="says all that is published"):
        si.push_to_hub(folder, "me/dogs", "mit")
    (folder / "old.pkl").write_bytes(b"x")
    with pytest.raises(ValueError, match="old.pkl is a pickle"):
        si.push_to_hub(folder, "me/dogs")
    (folder / "old.pkl").unlink()
    (folder / "README.md").write_text("# dogs")
    with pytest.raises(ValueError, match="says no licence"):
        si.push_to_hub(folder, "me/dogs")


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"license": None}, "no licence is given"),
        ({"license": "a\nb: c"}, "the licence 'a.*nb: c'"),
        ({"repository": "cats"}, "expected OWNER/NAME"),
        ({"repository": "me/cats/x"}, "expected OWNER/NAME"),
        ({"tags": ["x\n"]}, "the tag"),
        ({"metrics": {"FID": float("nan")}}, "expected a finite number"),
    ],
)
def test_what_cannot_be_published_is_refused(network, given, expected):
    with pytest.raises(ValueError, match=expected):
        si.push_to_hub(network[0], **{"repository": "me/cats", "license": "mit", **given})


def test_what_belongs_to_another_network_is_not_published(network, tmp_path):
    other = of_step("turn", "w", torch.eye(8)[0], adapt(make_network(resolution=8).G), {})
    other = dataclasses.replace(other, network="0" * 64)
    with pytest.raises(ValueError, match="of another network"):
        si.write_hub_folder(tmp_path / "out", network[0], "me/cats", "mit", directions=[other])
    mine = of_step("turn", "z", torch.eye(8)[0], adapt(network[0].G), {})
    with pytest.raises(ValueError, match="two directions would be"):
        si.write_hub_folder(tmp_path / "out", network[0], "me/cats", "mit", directions=[mine, mine])
    assert not (tmp_path / "out").exists()


@needs_library
def test_a_wrong_token_is_not_repeated_in_the_error(server, network):
    with pytest.raises(si.DownloadError) as e:
        si.push_to_hub(network[0], "me/cats", "mit", token=TOKEN + "x")
    assert "the token does not allow this" in str(e.value) and TOKEN not in str(e.value)


@needs_library
def test_the_environment_of_the_library_is_obeyed(tmp_path, network):
    """A process of its own, because the library reads its environment once."""
    program = "from stylegan_invert.io.hub import fetch; print(fetch('hf://me/cats/network.safetensors'))"
    with hub() as running:
        running.add("me/cats", {"network.safetensors": network[1]})
        running.private.add("me/cats")
        given = {"HF_ENDPOINT": running.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "no_proxy": "127.0.0.1"}
        command = [sys.executable, "-c", program]
        options = dict(cwd=HERE.parent, capture_output=True, text=True)
        first = subprocess.run(command, env={**os.environ, **given}, **options)
        assert first.returncode == 0 and first.stdout.startswith(str(tmp_path)), first.stderr
        running.asked.clear()
        offline = subprocess.run(command, env={**os.environ, **given, "HF_HUB_OFFLINE": "1"}, **options)
        assert offline.stdout == first.stdout and running.asked == []
