"""Tuning: what moves and what stays, the saved network, families, layers, schedules, and the locality penalty."""
# Takes at most 8 CPU seconds.

import json
import shutil

import numpy as np
import pytest
import test_biggan
import test_stylegan3
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt
from stylegan_invert.losses import MSE
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.network_files.provenance import provenance_of
from stylegan_invert.projectors import Projection, Projector
from stylegan_invert.projectors.settings import TuningOptions
from stylegan_invert.projectors.tuned_layers import chosen, sides
from stylegan_invert.projectors.tuning import Tuner, towards
from stylegan_invert.signals import Stopped

from conftest import make_network
from support import assert_close

FEW = {"loss": "mse=1", "steps": 3}


def target(size=16, seed=0):
    small = np.random.RandomState(seed).randint(256, size=(3, 4, 4), dtype=np.uint8)
    return small.repeat(size // 4, axis=1).repeat(size // 4, axis=2)


@pytest.fixture
def net(tmp_path):
    """A StyleGAN2 of 16x16 pixels that was read from a file."""
    si.save(make_network(), tmp_path / "net.pkl")
    return si.load(tmp_path / "net.pkl")


def test_the_weights_of_the_synthesis_move_by_adam_and_nothing_else_does(net):
    before = {name: value.clone() for name, value in net.G.state_dict().items()}
    result = si.project(net, target(), "w", **FEW, tune=4)
    expected = make_network().G.requires_grad_(True)
    moments = {name: (torch.zeros_like(x), torch.zeros_like(x)) for name, x in expected.synthesis.named_parameters()}
    ws = result.code.tensors["w"][:, None].repeat(1, expected.num_ws, 1)
    shown = torch.from_numpy(target()[None]) / 127.5 - 1
    for step in range(1, 5):
        expected.zero_grad()
        (expected.synthesis(ws, noise_mode="const") - shown).square().mean().backward()
        for name, x in expected.synthesis.named_parameters():  # Kingma & Ba, algorithm 1
            first, second = moments[name]
            first.lerp_(x.grad, 0.1)
            second.lerp_(x.grad**2, 0.001)
            x.data -= 3e-4 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    tuned = result.generator.network
    moved = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"synthesis.{name}" for name, _ in tuned.synthesis.named_parameters()}
    for name, value in expected.synthesis.state_dict().items():
        assert_close(name, tuned.synthesis.state_dict()[name].numpy(), value.detach().numpy(), 1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.G.state_dict().items())
    assert not any(p.requires_grad for p in tuned.parameters())
    history = result.record["tuning_history"]
    assert len(history) == 4 and history[0] > history[-1]
    assert result.metrics["psnr"] > result.pivot.metrics["psnr"] == result.record["tuning"]["pivot"]["psnr"]


def test_what_is_saved_draws_the_tuned_picture_and_says_from_what_it_was_tuned(net, tmp_path):
    result = si.project(net, target(), "w+", **FEW, tune=2, keep_steps=True)
    result.save(tmp_path / "out", video=False)
    files = {"target.png", "proj.png", "pivot.png", "projected_w.npz", "result.json", "tuned.pkl"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == files
    read = Projection.read(tmp_path / "out")
    assert read == result and torch.equal(read.pivot.image, result.pivot.image)
    assert read.pivot.metrics == result.pivot.metrics != result.metrics
    tuned = si.load(tmp_path / "out" / "tuned.pkl")
    again = Projector(tuned, "w", **FEW)
    assert tuned.D is not None and tuned.tuned_from == net.sha256 == tuned.info["tuned_from"]
    assert provenance_of(tuned.G).sha256 == tuned.sha256 != net.sha256
    of_memory = provenance_of(result.generator.network)
    assert of_memory.sha256 is None and of_memory.changed and of_memory.tuned_from == net.sha256
    assert result.record["network"]["tuned_from"]["sha256"] == net.sha256 and "sha256" not in result.record["network"]
    image = again.generator.render(again.generator.convert(read.code, "w+"))
    assert np.array_equal(again.medium.rounded(image[0]), result.image.numpy())
    second = next(again.project([target(seed=1)]))
    assert second.record["network"]["sha256"] == tuned.sha256
    assert second.record["network"]["tuned_from"] == {"sha256": net.sha256}
    si.project(net, target(), "w+", **FEW).save(tmp_path / "out")
    assert not (tmp_path / "out" / "pivot.png").exists() and Projection.read(tmp_path / "out").pivot is None


def biggan(path):
    torch.save(test_biggan.plain(), path / "G.pth")
    return path / "G.pth"


def stylegan3(path):
    si.save(test_stylegan3.make("t"), path / "net.pkl")
    return path / "net.pkl"


def dcgan(path):
    """Two layers, from a z of 6 numbers to pictures of 8x8 pixels."""
    random = torch.Generator().manual_seed(0)
    sizes = {"main.0": [6, 8, 4, 4], "main.2": [8, 3, 4, 4]}
    torch.save({f"{name}.weight": torch.randn(size, generator=random) for name, size in sizes.items()}, path / "G.pt")
    return path / "G.pt"


@pytest.mark.parametrize(
    "make, method, file, options",
    [
        (biggan, "z", "tuned.safetensors", {"class_idx": 1}),
        (stylegan3, "z", "tuned.pkl", {}),
        (dcgan, "dense", "tuned.safetensors", {"layer_optimizer": "adam", "layer_steps": 1}),
    ],
    ids=["biggan", "stylegan3", "dcgan"],
)
def test_every_family_is_tuned_and_read_back(make, method, file, options, tmp_path):
    net = si.load(make(tmp_path))
    picture = target(net.G.img_resolution)
    steps = {"optimizer": "adam", "loss": "mse=1", "steps": 1}
    result = si.project(net, picture, method, **steps, **options, tune=6, tune_lr=1e-3, tune_locality=0.1)
    assert result.record["tuning_history"][-1] < result.record["tuning_history"][0]
    assert result.record["tuning"]["options"]["schedule"] == ("progressive" if make is biggan else "together")
    result.save(tmp_path / "out")
    generator = adapt(si.load(tmp_path / "out" / file).G)
    code = Projection.read(tmp_path / "out").code
    with torch.no_grad():
        again = Projector(generator, "z", class_idx=options.get("class_idx")).medium.rounded(generator.render(code)[0])
    assert np.array_equal(again, result.image.numpy())


def test_layers_are_chosen_by_resolution_and_by_name():
    generator = adapt(make_network().G)
    known = sides(generator)
    assert {name.split(".")[1]: side for name, side in known.items()} == {"b4": 4, "b8": 8, "b16": 16}
    assert set(known) == {f"synthesis.{name}" for name, _ in generator.network.synthesis.named_parameters()}
    for text, beginnings in {
        "8-16": ("b8.", "b16."),
        "8, b16.torgb.*": ("b8.", "b16.torgb."),
        "synthesis.b4.const": ("b4.const",),
    }.items():
        fitting = {name for name in known if name.removeprefix("synthesis.").startswith(beginnings)}
        assert set(chosen(generator, text)) == fitting
    for text in ("b32.*", "32", "8,", "mapping.*", "9999999"):
        with pytest.raises(
            si.ProjectionError, match=r"no parameter fits .*resolutions 4, 8, 16, .*b8\.conv0\.affine\.\*"
        ):
            chosen(generator, text)
    net = NetworkFile({"G_ema": make_network().G})
    result = si.project(net, target(), "w", **FEW, tune=2, tune_layers="8")
    state = net.G.state_dict()
    moved = [name for name, x in result.generator.network.state_dict().items() if not torch.equal(x, state[name])]
    assert moved and all(name.startswith("synthesis.b8.") for name in moved)


def test_the_progressive_schedule_is_that_of_deep_generative_prior():
    """Its --ft_num 2 3 4 5 7 and --G_lrs 5e-5 5e-5 2e-5 1e-5 1e-5 for seven groups, 200 steps each."""
    tuner = Tuner(Projector(make_network(), "w", loss="mse=1"), TuningOptions(tune_schedule="progressive"))
    assert tuner.steps == 1000 and tuner.schedule.betas == (0.0, 0.999) and len(tuner._groups(make_network().G)) == 3
    for stage, (free, rate) in enumerate(zip((2, 3, 4, 5, 7), (5e-5, 5e-5, 2e-5, 1e-5, 1e-5))):
        for step in (200 * stage, 200 * stage + 199):
            assert tuner.rates(step, 7) == [rate] * free + [0.0] * (7 - free)
    halved = Tuner(tuner.projector, TuningOptions(tune=5, tune_schedule="progressive", tune_lr=2.5e-5))
    assert halved.rates(2, 3) == pytest.approx([1e-5] * 3)


def test_it_ends_at_the_lpips_that_was_asked_for():
    net = make_network(64, channel_base=256)
    options = {"loss": "lpips-squeeze=1,mse=1", "steps": 1, "noise_maps": "fixed", "initial_noise_factor": 0}
    pivot = si.project(net, target(64), "w", **options).metrics["lpips"]
    stopped = si.project(net, target(64), "w", **options, tune=3, tune_lpips=pivot + 0.01)
    assert stopped.record["tuning"]["steps"] == 0 and torch.equal(stopped.image, stopped.pivot.image)
    assert si.project(net, target(64), "w", **options, tune=1, tune_lpips=pivot / 2).record["tuning"]["steps"] == 1
    with pytest.raises(si.ProjectionError, match="tune_lpips needs LPIPS, and outputs of 8 pixels are too small"):
        si.project(make_network(8), target(8), "w", tune=True, tune_lpips=0.1)


def test_several_pictures_share_a_network(net, tmp_path):
    pictures = [target(seed=seed) for seed in (0, 1)]
    together = si.project(net, pictures, "w", **FEW, tune=3, tune_together=True)
    assert together[0].generator.network is together[1].generator.network
    for i, result in enumerate(together):
        result.save(tmp_path / "out" / str(i))
        assert result.record["network"]["file"] == "../tuned.pkl" and result.record["tuning"]["pictures"] == 2
        assert result.record["tuning_history"][-1] < result.record["tuning_history"][0]
        assert Projection.read(tmp_path / "out" / str(i)) == result
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0", "1", "tuned.pkl"]
    again = adapt(si.load(tmp_path / "out" / "tuned.pkl").G)
    assert torch.equal(again.render(together[1].code), together[1].generator.render(together[1].code))


def test_codes_near_the_pivot_lie_on_the_way_to_samples():
    pivot, sample = (Code("w+", {"w": torch.randn(1, 3, 4)}) for _ in range(2))
    away = sample.tensors["w"] - pivot.tensors["w"]
    for alpha, length in ((0.5, 0.5), (100.0, float(away.norm()))):
        got = towards(pivot, sample, alpha).tensors["w"] - pivot.tensors["w"]
        torch.testing.assert_close(got, away / away.norm() * length)


def test_the_locality_penalty_holds_other_pictures_where_they_were(net):
    generator = adapt(net.G)
    others = generator.convert(Code("z", {"z": torch.randn(8, 8, generator=torch.Generator().manual_seed(5))}), "w+")

    def change(**options):
        tuned = si.project(net, target(), "w", **FEW, tune=8, tune_lr=1e-2, **options).generator
        with torch.no_grad():
            return float(MSE().forward(generator.render(others), tuned.render(others)).mean())

    held = change(tune_locality=30.0, tune_locality_samples=2)
    assert held < 0.6 * change()
    assert held < change(tune_locality=30.0, tune_locality_samples=2, tune_locality_every=8)


def test_a_signal_ends_it_after_a_step(net):
    tuner = Tuner(Projector(net, "w", **FEW), TuningOptions(tune=50))
    arrived, seen = [], []

    def callback(first, step):
        seen.append((step.number, step.total))
        if step.total == 50 and step.number == 3:
            arrived.append(15)

    results = tuner.project([target()], callback=callback)
    tuner.arrived = arrived
    with pytest.raises(Stopped, match="stopped after step 3 of 50 of the tuning") as stopped:
        next(results)
    assert stopped.value.signal == 15 and seen == [(1, 3), (2, 3), (3, 3), (1, 50), (2, 50), (3, 50)]


@pytest.mark.parametrize(
    "options, error",
    [
        ({"tune_lr": 1e-3}, "tune_lr has no effect without tune .*--tune"),
        ({"tune_together": True}, "tune_together has no effect without tune"),
        ({"tune": 0}, "tune is 0; expected None or an integer from 1"),
        ({"tune": True, "tune_locality_alpha": 3.0}, "tune_locality_alpha has no effect here: tune_locality is 0"),
        ({"tune": True, "tune_schedule": "fast"}, "tune_schedule is 'fast'; expected None or one of together"),
        ({"tune": 9, "tune_lr": 1e12}, "tuning: the distance became .* at step .*lower tune_lr"),
    ],
)
def test_what_makes_no_sense_is_refused(net, options, error):
    with pytest.raises(si.ProjectionError, match=error):
        si.project(net, target(), "w", **FEW, **options)


def test_a_network_that_says_nonsense_of_its_tuning_is_refused(net, tmp_path):
    si.save(net, tmp_path / "odd.pkl", extra={"tuned_from": torch.zeros(3)})
    with pytest.raises(si.NetworkFileError, match="tuned_from.*no hash of 32 bytes"):
        si.load(tmp_path / "odd.pkl")


def test_the_command_tunes_and_its_networks_serve_other_commands(net, cli, picture, tmp_path):
    few = ["--loss", "mse=1", "--steps", "2", "--method", "w"]
    status, _, err = cli(
        "project", "-n", tmp_path / "net.pkl", "-t", picture, "-o", tmp_path / "a", *few, "--tune", "2", "--video"
    )
    assert status == 0 and "; tuned: PSNR" in err and (tmp_path / "a" / "proj.mp4").exists()
    tuned = tmp_path / "a" / "tuned.pkl"
    shutil.copy(picture, tmp_path / "second.png")
    command = ["project", "-n", tuned, "-t", picture, "-t", tmp_path / "second.png", "-o", tmp_path / "b", *few]
    assert cli(*command, "--tune-layers", "8", "--tune-together", "--tune", "1")[0] == 0
    record = json.loads((tmp_path / "b" / "second" / "result.json").read_text())
    assert record["network"]["file"] == "../tuned.pkl"
    assert record["network"]["tuned_from"]["sha256"] == si.load(tuned).sha256
    assert (
        cli(
            "project",
            "-n",
            tuned,
            "-t",
            picture,
            "-t",
            tmp_path / "second.png",
            "-o",
            tmp_path / "d",
            *few,
            "--tune",
            "1",
        )[0]
        == 0
    )
    assert (tmp_path / "d" / "second" / "tuned.pkl").exists() and (tmp_path / "d" / "manifest.jsonl").exists()
    out = ["-o", tmp_path / "c"]
    assert cli("interpolate", "-n", tuned, tmp_path / "a", tmp_path / "b" / "picture", *out)[0] == 0
    assert cli("generate", "-n", tuned, "--projected-w", tmp_path / "a" / "projected_w.npz", *out)[0] == 0
    drawn = (tmp_path / "c" / "proj00.png").read_bytes()
    assert drawn == (tmp_path / "a" / "proj.png").read_bytes()
    for wrong, said in ((["--tune", "0"], "--tune"), (["--tune-lr", "1"], "tune_lr has no effect without tune")):
        status, _, err = cli(*command, *wrong)
        assert status != 0 and said in err and "Traceback" not in err
