"""The command line: files, pictures byte for byte, and one clear sentence for every failure."""
# Takes at most 10 CPU seconds.

import dataclasses
import json
import os
import signal
import subprocess
import sys

import click
import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli import main as cli_main
from stylegan_invert.cli.official_projector import command as projector
from stylegan_invert.media.video import write_mp4

from conftest import make_network
from official import HERE, PRETRAINED
from support import load_npz

CHELSEA = str(PRETRAINED / "chelsea-face.png")


@pytest.fixture
def failing(cli, tmp_path):
    """Runs a command that must fail with one sentence and leave nothing behind in tmp_path/out; returns the sentence."""

    def run(*args, command=cli_main.cli):
        code, out, err = cli(*args, command=command)
        assert code not in (0, None) and out == ""
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1 and err.rstrip().endswith(lines[0].rstrip())
        assert not (tmp_path / "out").exists()
        return lines[0]

    return run


def test_project_writes_the_official_files_and_the_result(cli, tmp_path):
    code, out, err = cli(
        "project",
        "-n",
        "cats32",
        "-t",
        CHELSEA,
        "-o",
        tmp_path / "out",
        "--steps",
        4,
        "--method",
        "w",
        "--video",
        "--quiet",
    )
    assert (code, out, err) == (0, "", "")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "proj.mp4",
        "proj.png",
        "projected_w.npz",
        "result.json",
        "target.png",
    ]
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(record) == {
        "format",
        "evaluations",
        "history",
        "medium",
        "metrics",
        "distance",
        "method",
        "space",
        "options",
        "network",
        "target",
        "seconds",
        "versions",
    }
    assert set(record["metrics"]) == {"lpips", "lpips_network", "psnr", "ssim"}
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "out" / "proj.mp4"))
    assert frames == 4 and seconds == pytest.approx(0.4)


@pytest.mark.parametrize("network, method", [("cats32", "fast-w+"), ("faces64", "fast-dense")])
def test_the_method_that_is_used_if_none_is_named_is_said(cli, network, method, tmp_path, monkeypatch):
    monkeypatch.setattr("stylegan_invert.projectors.samples.COUNT", 16)
    code, _, err = cli("project", "-n", network, "-t", CHELSEA, "-o", tmp_path / "out", "--steps", 2)
    assert code == 0 and f", on cpu; method {method}\n" in err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["method"] == method


@pytest.mark.parametrize("flags", [[], ["--save-noise"]])
def test_generate_renders_a_projection_byte_for_byte(cli, flags, tmp_path):
    cli("project", "-n", "cats32", "-t", CHELSEA, "-o", tmp_path / "out", "--steps", 4, "--method", "w+", "-q", *flags)
    assert (
        cli(
            "generate",
            "-n",
            "cats32",
            "--projected-w",
            tmp_path / "out" / "projected_w.npz",
            "-o",
            tmp_path / "again",
            "-q",
        )[0]
        == 0
    )
    assert os.listdir(tmp_path / "again") == ["proj00.png"]
    assert (tmp_path / "again" / "proj00.png").read_bytes() == (tmp_path / "out" / "proj.png").read_bytes()


def test_generate_renders_several_codes_and_those_of_tensorflow(cli, cats, tmp_path):
    ws = cats.G.mapping(torch.randn(3, 128, generator=torch.Generator().manual_seed(0)))
    np.savez(tmp_path / "dlatents.npz", dlatents=ws.numpy())
    assert cli("generate", "-n", "cats32", "--projected-w", tmp_path / "dlatents.npz", "-o", tmp_path / "out")[0] == 0
    for i in range(3):
        with torch.no_grad():
            image = cats.G.synthesis(ws[i : i + 1], noise_mode="const", fused_modconv=True)[0]  # as official code
        expected = ((image + 1) * (255 / 2)).permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
        with PIL.Image.open(tmp_path / "out" / f"proj{i:02d}.png") as got:
            assert np.array_equal(got, expected)


def test_generate_renders_seeds_as_the_official_tool(cli, cats, tmp_path):
    code, _, _ = cli("generate", "-n", "cats32", "--seeds", "3,85-86", "--trunc", 0.7, "-o", tmp_path / "out")
    assert code == 0 and sorted(os.listdir(tmp_path / "out")) == ["seed0003.png", "seed0085.png", "seed0086.png"]
    z = torch.from_numpy(np.random.RandomState(85).randn(1, 128))
    image = cats.G(z, None, truncation_psi=0.7, noise_mode="const", fused_modconv=True)[0]
    expected = (image.permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
    with PIL.Image.open(tmp_path / "out" / "seed0085.png") as got:
        assert np.array_equal(got, expected)


def test_the_official_projector_flags_and_files(cli, features, tmp_path):
    args = (
        f"--network={PRETRAINED / 'cats32-stylegan2-ada.pkl'}",
        f"--target={CHELSEA}",
        f"--outdir={tmp_path / 'out'}",
        "--num-steps=3",
        "--seed=1",
        "--save-video=True",
        f"--vgg16={features}",
        "--run-torchscript",
    )
    code, _, err = cli(*args, command=projector)
    assert code == 0, err
    assert sorted(os.listdir(tmp_path / "out")) == [
        "proj.mp4",
        "proj.png",
        "projected_w.npz",
        "result.json",
        "target.png",
    ]
    arrays = load_npz(tmp_path / "out" / "projected_w.npz")
    assert list(arrays) == ["w", "network"] and arrays["w"].shape == (1, 8, 128) and arrays["w"].dtype == np.float32
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["metrics"]["lpips_network"] == "vgg" and record["options"]["vgg16"]["file"] == str(features)
    defaults = {p.name: p.default for p in projector.params}
    assert (defaults["num_steps"], defaults["seed"], defaults["save_video"]) == (1000, 303, True)


def test_a_second_run_leaves_no_file_of_the_first(cli, tmp_path):
    args = ("project", "-n", "cats32", "-t", CHELSEA, "-o", tmp_path / "out", "--steps", 2, "--method", "w", "-q")
    assert cli(*args, "--video")[0] == 0 and cli(*args)[0] == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["proj.png", "projected_w.npz", "result.json", "target.png"]


@pytest.mark.parametrize("frames", [1, 3])
def test_a_video_that_cannot_be_written_is_named(frames, tmp_path, monkeypatch):
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\nhead -c 10 >/dev/null\necho no room left >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(failing))
    with pytest.raises(OSError, match="the video could not be written .no room left"):
        write_mp4(tmp_path / "out.mp4", [np.zeros((3, 512, 512), np.uint8)] * frames)
    assert os.listdir(tmp_path) == ["ffmpeg"]


def test_several_targets_get_a_folder_each(cli, picture, tmp_path):
    other = picture.with_suffix(".jpg")
    with PIL.Image.open(picture) as image:
        image.save(other)
    code, _, err = cli(
        "project",
        "-n",
        "cats32",
        "-t",
        picture,
        "-t",
        other,
        "-t",
        CHELSEA,
        "-o",
        tmp_path / "out",
        "--steps",
        2,
        "--batch",
        2,
        "--method",
        "w",
    )
    of_run = [".claims", "manifest.jsonl", "results.csv", "summary.json"]
    assert code == 0 and set(os.listdir(tmp_path / "out")) == {"chelsea-face", "picture.jpg", "picture.png", *of_run}
    assert len([line for line in err.splitlines() if "LPIPS" in line]) == 3
    assert (
        cli(
            "project",
            "-n",
            "cats32",
            "-t",
            picture.parent,
            "-o",
            tmp_path / "plus",
            "--steps",
            2,
            "--method",
            "w+",
            "-q",
        )[0]
        == 0
    )
    code, _, err = cli(
        "project",
        "-n",
        "cats32",
        "-t",
        picture.parent,
        "-o",
        tmp_path / "more",
        "--steps",
        2,
        "--method",
        "w+",
        "-q",
        "--init",
        tmp_path / "plus",
    )
    assert code == 0, err
    one = ("project", "-n", "cats32", "-t", picture, "-o", tmp_path / "one", "--steps", 2, "--method", "w+", "-q")
    code, _, err = cli(*one, "--init", tmp_path / "plus")  # its folder in the earlier run has the suffix in its name
    assert "there is neither projected_w.npz nor picture/projected_w.npz" in err
    assert cli(*one, "--init", tmp_path / "plus" / "picture.png")[0] == 0
    record = json.loads((tmp_path / "more" / "picture.png" / "result.json").read_text())
    assert record["options"]["init"] == str(tmp_path / "plus" / "picture.png" / "projected_w.npz")


def test_classes_and_channels(cli, picture, tmp_path, failing):
    si.save(make_network(channels=1, classes=3), tmp_path / "net.pkl")
    common = (
        "project",
        "-n",
        tmp_path / "net.pkl",
        "--method",
        "w",
        "-t",
        picture,
        "-o",
        tmp_path / "out",
        "--steps",
        2,
        "--loss",
        "mse",
    )
    assert "choose one with --class 0 ... 2" in failing(*common)
    assert "the classes 0 ... 2" in failing(*common, "--class", 7)
    assert "this distance needs at least 17x17" in failing(*common[:-1], "lpips-squeeze", "--class", 1)
    code, _, err = cli(*common, "--class", 1)
    assert code == 0, err
    code, _, err = cli("generate", "-n", tmp_path / "net.pkl", "--seeds", "1", "-o", tmp_path / "seeds")
    assert code == 1 and "choose one with --class 0 ... 2" in err and not (tmp_path / "seeds").exists()
    assert cli("generate", "-n", tmp_path / "net.pkl", "--seeds", "1", "--class", 2, "-o", tmp_path / "seeds")[0] == 0


def test_inspect_prints_text_and_json(cli, tiny_file):
    code, out, _ = cli("inspect", tiny_file)
    assert code == 0 and "stylegan2" in out and "resolution                8" in out
    code, out, _ = cli("inspect", tiny_file, "--json")
    info = json.loads(out)
    assert info["resolution"] == 8 and info["spaces"]["w+"] == [4, 8] and len(info["sha256"]) == 64


def test_inputs_that_cannot_be_used_are_named(failing, tmp_path, picture):
    out = tmp_path / "out"

    def project(*args, network="cats32", target=CHELSEA, outdir=out):
        return failing("project", "-n", network, "-t", target, "-o", outdir, "--steps", 2, "--method", "w", *args)

    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder").mkdir()
    assert "text.png: it is not a picture" in project(target=tmp_path / "text.png")
    assert "nothing.png: there is no such file" in project(target=tmp_path / "nothing.png")
    assert "there are no pictures in this folder" in project(target=tmp_path / "folder")
    assert "nothing.pkl: there is no such file" in project(network=tmp_path / "nothing.pkl")
    assert "it is a directory; expected a network file" in project(network=tmp_path)
    assert "not a network file: it begins with" in project(network=picture)
    assert "cannot write there (not a directory); choose a folder" in project(outdir=picture / "out")
    assert "cannot write there (it is a file)" in project(outdir=picture)
    assert "it is empty; expected a name" in project(target="")
    assert "there is neither projected_w.npz nor chelsea-face/projected_w.npz" in project("--init", tmp_path / "folder")
    assert "is not a number" in project("--lr", "nan")
    assert "is not in the range" in project("--seed", 2**32)
    assert "has no lpips-vgg to use it" in project("--vgg16", tmp_path / "text.png")
    assert "method 'x' is unknown" in project("--method", "x")
    assert "loss 'x' in 'x' is unknown" in project("--loss", "x")
    assert "nothing.npz: there is no such file" in project("--init", tmp_path / "nothing.npz")
    assert "background 'x' is no colour" in project("--background", "x")
    assert "text.png: " in project("--vgg16", tmp_path / "text.png", "--loss", "lpips-vgg")
    if not torch.cuda.is_available():
        assert "finds cpu" in project("--device", "cuda")


def test_a_network_without_numbers_is_named(failing, tmp_path):
    net = make_network()
    net.G.synthesis.b8.conv0.bias[0] = 3e38  # finite, and infinite when it is multiplied by the gain
    si.save(net, tmp_path / "large.pkl")
    arguments = ["-n", tmp_path / "large.pkl", "-o", tmp_path / "out"]
    line = failing("project", *arguments, "-t", CHELSEA, "--steps", 10, "--loss", "mse", "--method", "w")
    assert "the distance became" in line and "at step 1 of 10" in line
    assert "the network, the starting code or the weights in --loss are at fault" in line
    line = failing("generate", *arguments, "--seeds", 1)
    assert "seed0001.png: the picture of a code holds numbers that are not finite" in line
    assert not (tmp_path / "out").exists()


def _zeros(path):
    with open(path, "wb") as f:
        f.truncate(2**33)
    return path


def test_generate_names_what_is_wrong(failing, cli, tmp_path):
    out = tmp_path / "out"
    assert "Give either --seeds or --projected-w" in failing("generate", "-n", "cats32", "-o", out)
    assert "expected numbers and ranges" in failing("generate", "-n", "cats32", "--seeds", "3-1", "-o", out)
    np.savez(tmp_path / "w.npz", w=np.zeros((1, 18, 512), np.float32))
    assert "w has shape (18, 512) per picture; this network has (8, 128)" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "w.npz", "-o", out
    )
    np.savez(tmp_path / "n.npz", w=np.full((1, 8, 128), np.nan, np.float32))
    assert "finite float32 numbers" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "n.npz", "-o", out
    )
    np.savez(tmp_path / "big.npz", w=np.full((1, 8, 128), 1e300))
    assert "finite" in failing("generate", "-n", "cats32", "--projected-w", tmp_path / "big.npz", "-o", out)
    np.savez(tmp_path / "z.npz", w=np.zeros((0, 8, 128), np.float32))
    assert "w is for 0 pictures; expected at least one" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "z.npz", "-o", out
    )
    np.savez(
        tmp_path / "u.npz",
        **{"w": np.zeros((2, 8, 128), np.float32), "noise.b8.conv0": np.zeros((1, 8, 8), np.float32)},
    )
    assert "noise.b8.conv0 is for 1 pictures; expected 2" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "u.npz", "-o", out
    )
    np.savez(tmp_path / "o.npz", w=np.array([object()]))
    assert "expected that of an array of numbers" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "o.npz", "-o", out
    )
    np.savez(tmp_path / "large.npz", w=np.full((1, 8, 128), 1e38, np.float32))
    assert "proj00.png: the picture of a code holds numbers that are not finite" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "large.npz", "-o", out
    )
    np.savez(tmp_path / "other.npz", w=np.zeros((1, 8, 128), np.float32), network=np.array("0" * 64))
    other = ["generate", "-n", "cats32", "--projected-w", tmp_path / "other.npz", "-o", out]
    assert "its codes are of another network" in failing(*other)
    assert cli(*other[:-1], tmp_path / "foreign", "--foreign-codes")[0] == 0
    assert "its codes are of another network" in failing(*other)  # the option holds for one command
    assert "is no size" in failing("--max-file-size", "many", *other)
    assert "it has 8,589,934,592 bytes" in failing("inspect", _zeros(tmp_path / "large.pkl"))
    assert "not a network file" in failing("--max-file-size", "9G", "inspect", tmp_path / "large.pkl")
    (tmp_path / "x.npz").write_text("x")
    assert "is no .npz file of arrays" in failing(
        "generate", "-n", "cats32", "--projected-w", tmp_path / "x.npz", "-o", out
    )


def test_an_unreachable_vgg16_is_explained(failing, monkeypatch, tmp_path):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    line = failing("--network=cats32", f"--target={CHELSEA}", f"--outdir={tmp_path / 'out'}", command=projector)
    assert (
        "https://nvlabs-fi-cdn.nvidia.com" in line
        and str(tmp_path / "cache") in line
        and "--loss lpips-squeeze" in line
    )
    line = failing("project", "-n", "ffhq", "-t", CHELSEA, "-o", tmp_path / "out")
    assert "ffhq.pkl" in line and "save it as" in line
    assert not [f for f in (tmp_path / "cache").iterdir()]


def start(*args):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupted_run_leaves_nothing_half_written(tmp_path):
    process = start(
        "stylegan_invert",
        "project",
        "-n",
        "cats32",
        "-t",
        CHELSEA,
        "-o",
        tmp_path / "out",
        "--steps",
        100_000,
        "--method",
        "w",
    )
    first = process.stderr.readline()  # the network is loaded
    assert first.startswith("network cats32"), first
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    if "stopped after step" in err:  # the search had begun
        assert "the same command goes on" in err and os.listdir(tmp_path / "out") == ["checkpoint.pt"]
    else:
        assert err.strip() == "Error: interrupted; what was unfinished was not written"  # after a line for the ^C
        assert not (tmp_path / "out").exists()


def test_both_programs_start(tmp_path):
    for module in ("stylegan_invert", "stylegan_invert.projector"):
        process = start(module, "--help")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and "Usage: " in out and err == ""


def test_every_option_of_every_method_is_on_the_command_line():
    """Each is left to the method unless it is given, and its default is said."""
    from stylegan_invert.cli.help import ALL
    from stylegan_invert.cli.project import command
    from stylegan_invert.losses import DEFAULT_LOSS
    from stylegan_invert.options import flags
    from stylegan_invert.projectors import METHODS, DenseOptions, LatentOptions, WOptions

    names = {"help_option_names": ["-h", "--help"]}  # click keeps those of the first context
    given = command.make_context("project", [], resilient_parsing=True, **names).params
    fields = [f for method in METHODS.values() for f in dataclasses.fields(method.options)]
    assert {f.name for f in fields if not flags(f)} == {"class_vector"}  # --class relaxed asks for it
    for field in fields:
        assert field.metadata["help"] or not flags(field)
        assert not flags(field) or given[field.name] is None
    wide = {"terminal_width": 10_000, "max_content_width": 10_000}
    context = click.Context(command, **names, **wide)
    context.meta[ALL] = True
    shown = " ".join(command.get_help(context).split())
    for text, value in (
        ("default: 1000 for w, w+, v and v+; 500 for z and dense]", (WOptions().steps, LatentOptions().steps)),
        ("default: 303]", (WOptions().seed, LatentOptions().seed)),
        ("default: 0.1]", (LatentOptions().initial_learning_rate, WOptions().initial_learning_rate)),
        (f"default: {DEFAULT_LOSS}", (DEFAULT_LOSS,)),
        ("default: 0.7]", (DenseOptions().delta_share,)),
        ("default: 0.05]", (DenseOptions().layer_learning_rate,)),
        ("default: 500]", (DenseOptions().layer_steps,)),
    ):
        assert text in shown and all(str(v) in text for v in value), text
    defaults = {
        "method": None,
        "save_noise": False,
        "batch": 1,
        "class_idx": None,
        "vgg16": None,
        "init": None,
        "loss": None,
    }
    assert {name: given[name] for name in defaults} == defaults


def test_a_method_of_another_package_has_its_options_on_the_command_line(monkeypatch):
    import stylegan_invert.cli.project as project
    from stylegan_invert.options import option
    from stylegan_invert.projectors import Method, MethodOptions

    @dataclasses.dataclass(frozen=True)
    class Patient(MethodOptions):
        waiting: int = option(7, 1, 100, whole=True, help="How long it waits.")

    methods = {**project.METHODS, "patient": Method("w", "nowhere:fit", Patient)}
    monkeypatch.setattr(project, "all_methods", lambda: methods)

    @click.command()
    @project.method_options
    def command(**options):
        click.echo(repr(options["waiting"]))

    assert CliRunner().invoke(command, ["--waiting", "3"]).output == "3\n"
    assert CliRunner().invoke(command, ["--waiting", "0"]).exit_code == 2
    assert "How long it waits. [default: 7]" in " ".join(CliRunner().invoke(command, ["--help"]).output.split())
