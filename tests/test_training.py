"""Training: data, losses, augmentation, the loop, its files, and what happens when something is wrong."""
# Takes at most 65 CPU seconds.

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.training import gan, loop
from stylegan_invert.training.augment import AugmentPipe, geometry
from stylegan_invert.training.configs import CONFIGS, Options
from stylegan_invert.training.gan import GANTrainer, build
from stylegan_invert.training.gan_losses import DirectionLoss, StyleGAN2Loss

from conftest import make_direction_network

SMALL = dict(z_dim=7, w_dim=8, channel_base=64, channel_max=8, batch=4)


def jpeg(seed, size=(24, 20), mode="RGB"):
    pixels = np.random.RandomState(seed).randint(256, size=(6, 6, 3)).astype(np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).resize(size, PIL.Image.BICUBIC).convert(mode).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A plain folder of 12 pictures in two sub-folders."""
    root = tmp_path / "pictures"
    for i in range(12):
        path = root / f"{i // 8}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i))
    return root


def official_zip(path, labels):
    with zipfile.ZipFile(path, "w") as z:
        names = [f"00000/img{i:08d}.png" for i in range(6)]
        for i, name in enumerate(names):
            z.writestr(name, jpeg(i, (16, 16)))
        z.writestr("dataset.json", json.dumps({"labels": labels and [[n, v] for n, v in zip(names, labels)]}))
    return path


def checked(*args, **kwargs):
    data = PictureSet(*args, **kwargs)
    data.check()
    return data


def test_folders_and_zips_are_read(folder, tmp_path):
    data = checked(folder)
    assert data.resolution == 16 and len(data) == 12 and data.names[0] == "0/00.png" and data.c_dim == 0
    assert data.pictures([0, 11]).shape == (2, 3, 16, 16) and data.pictures([0]).dtype == np.uint8
    mirrored = checked(folder, mirror=True)
    assert len(mirrored) == 24
    np.testing.assert_array_equal(mirrored.pictures([12 + 3])[0], mirrored.pictures([3])[0][:, :, ::-1])
    part = checked(folder, resolution=8, channels=1, first=2, last=5)
    assert part.names == ["0/02.png", "0/03.png", "0/04.png"] and part.pictures([0]).shape == (1, 1, 8, 8)
    packed = checked(official_zip(tmp_path / "a.zip", [0, 1, 2, 0, 1, 2]), use_labels=True)
    assert packed.c_dim == 3 and packed.labels[4].tolist() == [0, 1, 0]
    assert checked(official_zip(tmp_path / "b.zip", [[0.5, 1.0]] * 6), use_labels=True).labels[0].tolist() == [0.5, 1.0]


def test_large_sets_are_read_as_they_are_needed(folder, monkeypatch):
    kept = checked(folder, mirror=True)
    monkeypatch.setattr("stylegan_invert.media.picture_set.KEEP_BYTES", 0)
    read = checked(folder, mirror=True)
    stream = read.batches(5, seed=1)
    for (a, _), (b, _) in zip(kept.batches(5, seed=1), (next(stream) for _ in range(12))):
        assert torch.equal(a, b)
    stream.close()


def test_the_order_goes_on_where_it_stopped(folder):
    data = checked(folder, mirror=True)
    stream = data.batches(4, seed=3)
    whole = torch.cat([next(stream)[0] for _ in range(12)])  # two epochs
    later = data.batches(4, seed=3, start=20)
    assert torch.equal(torch.cat([next(later)[0] for _ in range(7)]), whole[20:])
    first = {x.numpy().tobytes() for x in whole[:24]}
    assert len(first) == 24 and first == {x.numpy().tobytes() for x in whole[24:]}
    assert not torch.equal(whole[:24], whole[24:])


def test_broken_pictures_are_named_and_left_out(folder):
    (folder / "0" / "03.png").write_bytes(jpeg(3)[:100])
    (folder / "0" / "05.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    data = checked(folder)
    assert set(data.broken) == {"0/03.png", "0/05.png"} and len(data) == 10
    assert "empty" in data.broken["0/05.png"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "no pictures"),
        (lambda p: p.write_bytes(b"PK nothing"), "neither a folder nor a whole zip"),
        (lambda p: (p.mkdir(), (p / "a.png").write_bytes(b"x")), "cannot be read"),
    ],
)
def test_a_set_that_is_none_is_refused(tmp_path, make, message):
    make(tmp_path / "set")
    with pytest.raises(si.TrainingError, match=message):
        checked(tmp_path / "set")


@pytest.mark.parametrize(
    "labels, message", [(None, "no labels"), (["a"] * 6, "expected one class"), ([0, 1], "no label for")]
)
def test_labels_that_are_none_are_refused(tmp_path, labels, message):
    with pytest.raises(si.TrainingError, match=message):
        PictureSet(official_zip(tmp_path / "a.zip", labels), use_labels=True)


def test_stated_parameter_counts():
    for resolution, config in CONFIGS.items():
        with torch.device("meta"):
            networks = build(Options.for_resolution(resolution))
        assert tuple(sum(p.numel() for p in n.parameters()) for n in networks) == config.parameters


@pytest.mark.parametrize("resolution", [4, 12, 100, 2048])
def test_resolutions_that_are_none_are_refused(resolution):
    with pytest.raises(si.TrainingError, match="expected a power of two from 8 to 1024"):
        Options.for_resolution(resolution)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(head="two"), "head is 'two'; expected one of none, direction"),
        (dict(augment="all"), "augment is 'all'"),
        (dict(batch=6, batch_gpu=4), "multiple of batch_gpu"),
        (dict(batch=6), "groups of 4"),
        (dict(lr=0), "lr is 0; expected a number above 0 to 1"),
        (dict(batch=2.5), "batch is 2.5; expected an integer from 1"),
        (dict(kimg=math.nan), "kimg is nan; expected a number above 0"),
        (dict(mixing=1.5), "mixing is 1.5; expected a number from 0 to 1"),
        (dict(fp16=1), "fp16 is 1; expected True or False"),
        (dict(uniform_z=True), "normalize_z and uniform_z are both True"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(si.TrainingError, match=message):
        Options.for_resolution(32, **settings)


def networks(head="none", **options):
    torch.manual_seed(0)
    G, D = build(Options.for_resolution(16, head=head, **{**SMALL, **options}))
    return G.requires_grad_(False), D.requires_grad_(False)


def batch_of(n=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    img = torch.rand([n, 3, 16, 16], generator=random) * 2 - 1
    return img, torch.zeros(n, 0), torch.randn([n, 7], generator=random), torch.zeros(n, 0)


def gradients(loss, module, phase, inputs, gain=1.0):
    module.requires_grad_(True)
    for p in module.parameters():
        p.grad = None
    torch.manual_seed(5)
    loss.accumulate_gradients(phase, *inputs, gain=gain)
    module.requires_grad_(False)
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in module.parameters()])


def test_phases_are_the_losses_definitions():
    """Karras et al.: logistic loss, R1 with gamma / 2, path lengths; gradients against a plain calculation."""
    G, D = networks()
    loss = StyleGAN2Loss(
        "cpu", G.mapping, G.synthesis, D, style_mixing_prob=0, r1_gamma=3, pl_weight=2, pl_batch_shrink=2
    )
    for layer in G.synthesis.modules():
        if hasattr(layer, "noise_strength"):
            layer.noise_strength.data.zero_()  # noise is random
    img, c, z, gen_c = inputs = batch_of()

    def expected(module, value):
        module.requires_grad_(True)
        torch.manual_seed(5)
        found = torch.autograd.grad(value(), list(module.parameters()), allow_unused=True)
        module.requires_grad_(False)
        return torch.cat(
            [torch.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(found, module.parameters())]
        )

    def sigmoid_log(x):
        return -torch.log(torch.sigmoid(x)).mean()

    def r1():
        x = img.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
        return 1.5 * g.square().sum([1, 2, 3]).mean()

    def path():
        ws = G.mapping(z[:2])
        x = G.synthesis(ws)
        y = torch.randn_like(x) / 16
        (g,) = torch.autograd.grad((x * y).sum(), ws, create_graph=True)
        length = g.square().sum(2).mean(1).sqrt()
        return 2 * (length - 0.01 * length.mean()).square().mean()

    close = dict(rtol=1e-4, atol=1e-6)
    got = gradients(loss, D, "Dmain", inputs, gain=2.0)
    fake = G(z).detach()
    torch.testing.assert_close(got, 2 * expected(D, lambda: sigmoid_log(D(img)) + sigmoid_log(-D(fake))), **close)
    torch.testing.assert_close(gradients(loss, D, "Dreg", inputs), expected(D, r1), **close)
    torch.testing.assert_close(gradients(loss, G, "Gmain", inputs), expected(G, lambda: sigmoid_log(D(G(z)))), **close)
    torch.testing.assert_close(gradients(loss, G, "Greg", inputs), expected(G, path), **close)
    assert float(loss.pl_mean) > 0
    stats = loss.stats.means()
    assert stats["scores/real"] == pytest.approx(float(D(img).mean()), rel=1e-4) and -1 <= stats["signs/real"] <= 1


def test_both_phases_add_up():
    G, D = networks()
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, style_mixing_prob=0, r1_gamma=3, pl_weight=0)
    for layer in G.synthesis.modules():
        if hasattr(layer, "noise_strength"):
            layer.noise_strength.data.zero_()
    inputs = batch_of()
    both = gradients(loss, D, "Dboth", inputs)
    torch.testing.assert_close(both, gradients(loss, D, "Dmain", inputs) + gradients(loss, D, "Dreg", inputs))
    with pytest.raises(ValueError, match="phase is 'D'"):
        loss.accumulate_gradients("D", *inputs, gain=1)


def test_style_mixing_mixes():
    G, D = networks()
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, style_mixing_prob=1)
    _, _, z, c = batch_of()
    _, ws = loss.run_G(z, c)
    assert not torch.equal(ws[:, 0], ws[:, -1])
    _, ws = loss.run_G(z, c, mix=False)
    assert torch.equal(ws[:, 0], ws[:, -1])


@pytest.mark.parametrize("mixing, augment", [(0, None), (0.9, None), (0, 1.0)])
def test_both_networks_lower_the_angle(mixing, augment):
    """Cho, algorithm 1: with the embedding loss alone, steps of either network bring the direction to the latent."""
    for phase in ("Gmain", "Dmain"):
        G, D = networks("direction")
        pipe = AugmentPipe(augment) if augment else None
        loss = DirectionLoss(
            "cpu",
            G.mapping,
            G.synthesis,
            D,
            pipe,
            embedding_weight=1e4,
            style_mixing_prob=mixing,
            r1_gamma=0,
            pl_weight=0,
        )
        module = G if phase == "Gmain" else D
        adam = torch.optim.Adam(module.parameters(), lr=0.003)
        img, c, z, gen_c = batch_of(8)
        angles = []
        for _ in range(60):
            module.requires_grad_(True)
            adam.zero_grad()
            loss.stats.clear()
            loss.accumulate_gradients(phase, img, c, z, gen_c, gain=1)
            module.requires_grad_(False)
            adam.step()
            angles.append(loss.stats.means()["angle"])
        assert angles[-1] < 0.8 * angles[0], (phase, angles[0], angles[-1])


def test_signs_are_the_papers():
    """D lowers v of real pictures and raises it for generated ones; G lowers it."""
    G, D = networks("direction")
    loss = DirectionLoss(
        "cpu", G.mapping, G.synthesis, D, embedding_weight=0, style_mixing_prob=0, r1_gamma=0, pl_weight=0
    )
    img, c, z, gen_c = inputs = batch_of(8)

    def v(x):
        return float(D.embed(x).v.mean())

    before = v(img), v(G(z))
    for phase, module in (("Dmain", D), ("Gmain", G)):
        gradients(loss, module, phase, inputs)
        for p in module.parameters():
            if p.grad is not None:
                p.data -= 0.02 * p.grad
        if phase == "Dmain":
            assert v(img) - v(G(z)) < before[0] - before[1]
            middle = v(G(z))
    assert v(G(z)) < middle


def test_the_trunks_own_output_learns_what_the_head_says(folder):
    trainer = GANTrainer(
        Options.for_resolution(16, head="direction", lr=0.01, gamma=0, **SMALL), checked(folder, mirror=True)
    )
    for _ in range(150):
        trainer.step()
    x = torch.from_numpy(trainer.data.pictures(range(12))).float() / 127.5 - 1
    x = torch.cat([x, trainer.G(torch.randn([36, 7]))])
    alone, head = trainer.D.trunk(x)[:, 0], trainer.D(x)[:, 0]
    assert torch.corrcoef(torch.stack([alone, head]))[0, 1] > 0.5


def test_the_constants_of_augmentation_are_made_once(monkeypatch):
    """A tensor that is made from Python numbers in each step makes a GPU's program wait for the copy."""
    pipe, x = AugmentPipe(1), torch.zeros([2, 3, 8, 8])
    with torch.inference_mode():
        pipe(x)
    monkeypatch.setattr(torch, "tensor", None)
    pipe(x.requires_grad_(True)).sum().backward()


def test_no_augmentation_changes_nothing_and_some_does():
    x = torch.rand([4, 3, 16, 16]) * 2 - 1
    torch.testing.assert_close(AugmentPipe(0)(x), x)
    assert not torch.allclose(AugmentPipe(1)(x), x)
    for channels in (1, 4):
        y = AugmentPipe(1)(x[:, :1].repeat(1, channels, 1, 1))
        assert y.shape == (4, channels, 16, 16) and torch.isfinite(y).all()


def test_augmentation_can_be_differentiated_twice():
    x = (torch.rand([2, 3, 5, 5]) * 2 - 1).requires_grad_(True)

    def value(x):
        torch.manual_seed(0)
        return AugmentPipe(1)(x).square().sum()

    (g,) = torch.autograd.grad(value(x), x, create_graph=True)
    direction = torch.randn_like(x)
    (gg,) = torch.autograd.grad((g * direction).sum(), x)
    step = 1e-2
    ends = [torch.autograd.grad(value(x + s * step * direction), x)[0] for s in (1, -1)]
    torch.testing.assert_close(gg, (ends[0] - ends[1]) / (2 * step), rtol=1e-2, atol=1e-2)


def test_flips_and_quarter_turns_are_exact():
    torch.manual_seed(0)
    x = torch.rand([1, 1, 8, 8])
    turns = {tuple(f.flatten().tolist()) for k in range(4) for f in (x.rot90(k, [2, 3]), x.rot90(k, [2, 3]).flip(3))}
    seen = set()
    for _ in range(400):
        m = geometry(1, 8, torch.tensor(0.35))
        linear = m[0, :2, :2]
        if torch.allclose(linear.abs().round(), linear.abs(), atol=1e-6) and torch.equal(m[0, :2, 2], torch.zeros(2)):
            grid = torch.nn.functional.affine_grid(m[:, :2], [1, 1, 8, 8], align_corners=False)
            y = torch.nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
            close = [t for t in turns if np.allclose(t, y.flatten(), atol=1e-5)]
            assert len(close) == 1
            seen.add(close[0])
    assert len(seen) >= 4


def test_ada_moves_towards_its_target(folder):
    data = checked(folder)
    for target, moves in ((-1.0, True), (1.0, False)):
        options = Options.for_resolution(16, augment="ada", ada_target=target, ada_kimg=0.1, augment_p=0.1, **SMALL)
        trainer = GANTrainer(options, data)
        for _ in range(4):
            trainer.step()
        assert (float(trainer.augment_pipe.p) > 0.1) == moves
        assert trainer.loss.real_signs.sums == {}


def test_averages_follow_the_rule(folder):
    options = Options.for_resolution(16, ema_kimg=0.016, ema_rampup=0, **SMALL)
    trainer = GANTrainer(options, checked(folder))
    before, p = trainer.G_ema.synthesis.b4.const.clone(), trainer.G.synthesis.b4.const
    trainer.step()
    beta = 0.5 ** (4 / 16)
    torch.testing.assert_close(trainer.G_ema.synthesis.b4.const, before * beta + p * (1 - beta))
    assert torch.equal(trainer.G_ema.mapping.w_avg, trainer.G.mapping.w_avg)


def test_rounds_add_up_to_the_batch(folder):
    data = checked(folder)
    found = []
    for batch_gpu in (4, 2):
        options = Options.for_resolution(16, head="direction", batch_gpu=batch_gpu, mixing=0, pl_weight=0, **SMALL)
        trainer = GANTrainer(options, data)
        for layer in trainer.G.synthesis.modules():
            if hasattr(layer, "noise_strength"):
                layer.noise_strength.data.zero_()
        trainer.step()
        found.append(torch.cat([p.grad.flatten() for p in trainer.D.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


RUN = dict(tick_kimg=0.008, snapshot_ticks=2, metric_samples=0)


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("events"))


def test_a_run_writes_its_folder(folder, tmp_path):
    options = Options.for_resolution(16, kimg=0.032, head="direction", augment="ada", **SMALL)
    seen = []
    last = gan.train(checked(folder), options, tmp_path / "run", callback=seen.append, **{**RUN, "metric_samples": 12})
    assert names(tmp_path / "run") == [
        "checkpoint.pt", "fakes000000.png", "log.jsonl", "network-snapshot-000000.pkl", "reals.png", "training_options.json",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.008, 0.016, 0.024, 0.032] == [r.values["kimg"] for r in seen]
    for line in lines:
        assert line["images_per_second"] > 0 and line["seconds_left"] >= 0 and 0 < line["angle"] < 90
    assert "kid_squeezenet" in lines[1] and "frechet_squeezenet" not in lines[1] and "kid_squeezenet" not in lines[0]
    assert not any("fid" in key.lower() for line in lines for key in line)
    net = si.load(last)
    assert net.direction is not None and net.G.img_resolution == 16 and net["G"] is not net.G
    assert net.training_set_kwargs == {
        "path": "pictures",
        "pictures": 12,
        "resolution": 16,
        "use_labels": False,
        "xflip": False,
    }
    result = si.project(net, torch.zeros([3, 16, 16], dtype=torch.uint8), "de", loss="mse")
    assert result.image.shape == (3, 16, 16)


@pytest.mark.parametrize("head, augment", [("none", "none"), ("direction", "ada")])
def test_killed_and_resumed_is_undisturbed(folder, tmp_path, head, augment):
    """Promise 4, to the bit, with mixing, path lengths, classes of nothing and all counters."""
    options = dict(head=head, augment=augment, ada_kimg=0.1, mixing=0.9, pl_weight=2, **SMALL)
    data = checked(folder, mirror=True)
    whole = gan.train(data, Options.for_resolution(16, kimg=0.048, **options), tmp_path / "whole", **RUN)

    class Stop(Exception):
        pass

    def stop(report):
        if report.values["tick"] == 3:  # between checkpoints
            raise Stop

    with pytest.raises(Stop):
        gan.train(data, Options.for_resolution(16, kimg=0.048, **options), tmp_path / "cut", callback=stop, **RUN)
    with open(tmp_path / "cut" / "log.jsonl", "a") as f:
        f.write('{"kimg": 0.0')  # as a kill in the middle of a line leaves it
    torch.manual_seed(99)
    cut = gan.train(data, Options.for_resolution(16, kimg=0.048, **options), tmp_path / "cut", resume=True, **RUN)
    assert cut.read_bytes() == whole.read_bytes()
    logs = [[json.loads(line) for line in (p.parent / "log.jsonl").read_text().splitlines()] for p in (whole, cut)]
    timing = {"seconds", "images_per_second", "seconds_left"}
    assert [{k: v for k, v in line.items() if k not in timing} for line in logs[0]] == [
        {k: v for k, v in line.items() if k not in timing} for line in logs[1]
    ]


def test_kill_9_and_resume_on_the_command_line(folder, tmp_path):
    def start(outdir, *more):
        command = [sys.executable, "-m", "stylegan_invert", "train", "-q", *more]
        if not more:
            command += [
                "--data",
                folder,
                "-o",
                outdir,
                "--kimg",
                "0.2",
                "--tick",
                "0.016",
                "--snap",
                "2",
                "--metric-samples",
                "0",
            ]
            command += [
                "--resolution",
                "8",
                "--batch",
                "4",
                "--channel-base",
                "64",
                "--z-dim",
                "7",
                "--head",
                "direction",
            ]
        return subprocess.Popen(list(map(str, command)), cwd=os.path.dirname(os.path.dirname(__file__)))

    assert start(tmp_path / "whole").wait() == 0
    process = start(tmp_path / "cut")
    while not (tmp_path / "cut" / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert loop.read_checkpoint(tmp_path / "cut")["nimg"] < 100
    assert start(tmp_path / "cut", "--resume", tmp_path / "cut").wait() == 0
    for name in ("network-snapshot-000000.pkl", "fakes000000.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_loss_that_is_no_number_stops_the_run(folder, tmp_path, monkeypatch):
    options = Options.for_resolution(16, kimg=1, **SMALL)
    real = StyleGAN2Loss.accumulate_gradients

    def broken(self, phase, img, *args, **kwargs):
        real(self, phase, img * math.nan if self.stop_now else img, *args, **kwargs)

    monkeypatch.setattr(StyleGAN2Loss, "accumulate_gradients", broken)
    monkeypatch.setattr(StyleGAN2Loss, "stop_now", False, raising=False)

    def callback(report):
        monkeypatch.setattr(StyleGAN2Loss, "stop_now", report.values["tick"] == 3)

    with pytest.raises(si.TrainingError, match=r"nan or infinite after .*the last good checkpoint is .*checkpoint.pt"):
        gan.train(checked(folder), options, tmp_path / "run", callback=callback, **RUN)
    assert loop.read_checkpoint(tmp_path / "run")["nimg"] == 16


class Counter:
    """A trainer of another kind: it counts, and its network is a text file."""

    def __init__(self, data):
        self.data, self.nimg, self.ticks, self.seconds, self.total, self.sum = data, 0, 0, 0.0, 20, 0

    def step(self):
        self.nimg += 2
        self.sum += self.nimg

    def check_numbers(self):
        if self.sum < 0:
            raise si.TrainingError("the sum is negative")

    def values(self):
        return {"sum": self.sum}

    def clear_values(self):
        pass

    def record(self):
        return {"options": {"by": 2}, **loop.about_data(self.data)}

    def begin(self, outdir):
        (outdir / "begun").touch()

    def network_path(self, outdir):
        return outdir / f"{self.nimg}.txt"

    def snapshot(self, outdir):
        self.network_path(outdir).write_text(str(self.sum))
        return [self.network_path(outdir)], {"measured": self.sum / 2}

    def state(self):
        return {"nimg": self.nimg, "ticks": self.ticks, "seconds": self.seconds, "sum": self.sum}

    def load_state(self, state):
        self.nimg, self.ticks, self.seconds, self.sum = (state[k] for k in ("nimg", "ticks", "seconds", "sum"))


def test_the_loop_runs_any_trainer(folder, tmp_path):
    data = checked(folder)
    rhythm = dict(tick_kimg=0.004, snapshot_ticks=2)
    last = loop.train(Counter(data), tmp_path / "whole", **rhythm)
    assert last.name == "20.txt" and last.read_text() == str(sum(range(2, 21, 2)))
    files = {"8.txt", "16.txt", "20.txt", "begun", "checkpoint.pt", "log.jsonl", "training_options.json"}
    assert set(names(last.parent)) == files

    def stop(report):
        if report.values["tick"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(Counter(data), tmp_path / "cut", **rhythm, callback=stop)
    cut = loop.train(Counter(data), tmp_path / "cut", **rhythm, resume=True)
    assert cut.read_text() == last.read_text()
    lines = [json.loads(line) for line in (cut.parent / "log.jsonl").read_text().splitlines()]
    assert [line["nimg"] for line in lines] == [4, 8, 12, 16, 20] and lines[1]["measured"] == 10
    record = loop.read_options(cut.parent, dict)
    assert record["options"] == {"by": 2} and record["rhythm"] == rhythm and record["pictures"] == 12
    with pytest.raises(si.TrainingError, match="not one of a GAN"):
        GANTrainer(Options.for_resolution(16, **SMALL), data).load_state(loop.read_checkpoint(cut.parent))


def test_a_folder_with_a_run_is_not_written_over(folder, tmp_path):
    options = Options.for_resolution(16, kimg=0.008, **SMALL)
    gan.train(checked(folder), options, tmp_path / "run", **RUN)
    with pytest.raises(si.TrainingError, match="--resume"):
        gan.train(checked(folder), options, tmp_path / "run", **RUN)


def test_training_goes_on_from_a_network_file(folder, tmp_path):
    net = make_direction_network()
    si.save(net, tmp_path / "a.pkl")
    net = si.load(tmp_path / "a.pkl")
    data = checked(folder)
    trainer = GANTrainer(Options.for_resolution(16, head="direction", **SMALL), data)
    trainer.start_from(net)
    x = torch.rand([2, 3, 16, 16])
    assert torch.equal(trainer.D_ema.embed(x).direction, net.direction.embed(x).direction)
    assert torch.equal(trainer.D.outputs.weight, net.direction.outputs.weight)
    with pytest.raises(si.TrainingError, match=r"this run has .*--z-dim"):
        GANTrainer(Options.for_resolution(16, head="direction", **{**SMALL, "w_dim": 9}), data).start_from(net)
    with pytest.raises(si.TrainingError, match="compares the pictures of a batch"):
        net["D"], net.extra = Discriminator(0, 16, 3, channel_base=64, channel_max=8), {}
        net._direction = None
        trainer.start_from(net)


def test_classes_are_learned_by(folder, tmp_path):
    for head in ("none", "direction"):
        data = checked(official_zip(tmp_path / f"{head}.zip", [0, 1, 2, 0, 1, 2]), use_labels=True)
        options = Options.for_resolution(16, kimg=0.016, head=head, c_dim=data.c_dim, **SMALL)
        net = si.load(gan.train(data, options, tmp_path / head, **{**RUN, "metric_samples": 8}))
        assert net.G.c_dim == 3 and net.D.c_dim == 3


def invoke(*args):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, ["train", *map(str, args)])


def test_the_command_trains_a_folder_with_broken_pictures(folder, tmp_path):
    (folder / "0" / "03.png").write_bytes(jpeg(3)[:100])
    args = [
        "--kimg",
        0.016,
        "--tick",
        0.008,
        "--batch",
        4,
        "--channel-base",
        64,
        "--metric-samples",
        0,
        "--resolution",
        8,
    ]
    result = invoke("--data", folder, "-o", tmp_path / "run", *args)
    assert result.exit_code == 0, result.output
    assert "left out 1 picture that cannot be read: 0/03.png (" in result.output
    assert "images/s" in result.output and "left, G " in result.output
    longer = invoke("--resume", tmp_path / "run", "--kimg", 0.024)
    assert longer.exit_code == 0, longer.output
    assert loop.read_checkpoint(tmp_path / "run")["nimg"] == 24
    (folder / "0" / "04.png").unlink()
    assert "the run began with 11" in invoke("--resume", tmp_path / "run", "--kimg", 1).output
    assert "--batch cannot be changed" in invoke("--resume", tmp_path / "run", "--batch", 8).output
    assert "--data and --outdir are needed" in invoke("--kimg", 1).output


def test_the_command_starts_from_a_network_file(folder, tmp_path):
    si.save(make_direction_network(), tmp_path / "a.pkl")
    args = ["--kimg", 0.008, "--tick", 0.008, "--batch", 4, "--metric-samples", 0, "--head", "direction"]
    result = invoke("--data", folder, "-o", tmp_path / "run", "--resume", tmp_path / "a.pkl", *args)
    assert result.exit_code == 0, result.output
    assert si.load(tmp_path / "run" / "network-snapshot-000000.pkl").G.z_dim == 7


@pytest.mark.parametrize("sampling", ["angles", "uniform"])
def test_the_papers_samplings_are_warned_of(folder, tmp_path, sampling):
    args = [
        "--kimg",
        0.004,
        "--batch",
        4,
        "--channel-base",
        64,
        "--metric-samples",
        0,
        "--resolution",
        8,
        "--head",
        "direction",
    ]
    result = invoke("--data", folder, "-o", tmp_path / "run", "--sampling", sampling, *args)
    assert result.exit_code == 0 and "official code divides z by its root mean square" in result.output
    file = tmp_path / "run" / "network-snapshot-000000.pkl"
    mapping = si.load(file).G.mapping
    assert not mapping.normalize_z and mapping.uniform_z == (sampling == "uniform")
    result = invoke("--data", folder, "-o", tmp_path / "other", "--resume", file, "--sampling", "normal", *args[:4])
    assert result.exit_code == 1, result.output
    assert f"another --sampling ({sampling}; this run has normal)" in str(result.exception)


def test_events_are_written_where_tensorboard_is(folder, tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            seen.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, step))

        def flush(self):
            pass

        close = flush

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    options = Options.for_resolution(16, kimg=0.008, **SMALL)
    gan.train(checked(folder), options, tmp_path / "run", **RUN)
    assert seen[0] == (str(tmp_path / "run"), 0) and ("loss/G", 8) in seen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a machine with CUDA")
@pytest.mark.parametrize("head", ["none", "direction"])
def test_training_on_a_gpu_in_half_precision(folder, tmp_path, head):
    options = Options.for_resolution(
        32, kimg=0.064, head=head, fp16=True, augment="ada", mixing=0.9, pl_weight=2, batch=8
    )
    net = si.load(gan.train(checked(folder, resolution=32), options, tmp_path / "run", "cuda", **RUN))
    assert net.info["fp16_resolutions"] == [8, 16, 32]
    gan.train(
        checked(folder, resolution=32),
        dataclasses.replace(options, kimg=0.08),
        tmp_path / "run",
        "cuda",
        resume=True,
        **RUN,
    )


SETTINGS = """
import torch
from stylegan_invert.ops.precision import _parts
from stylegan_invert.training.precision import training_settings
cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
names = [(part, "fp32_precision") for part in _parts()] + [(cudnn, "benchmark")]
if not {newer}:
    names += [(cudnn, "allow_tf32"), (matmul, "allow_tf32")]
elif _parts():
    matmul.fp32_precision = "tf32"
now = lambda: [getattr(holder, name) for holder, name in names]
before = now()
assert "tf32" in before or True in before
try:
    with training_settings("cuda"):
        inside = now()
        assert "tf32" not in inside and inside.count(True) == 1 and cudnn.benchmark
        raise KeyError
except KeyError:
    assert now() == before
with training_settings("cpu"):
    assert now() == before
"""


@pytest.mark.parametrize("newer", [False, True])
def test_cuda_settings_of_a_training_are_put_back(newer):
    """TF32 is off and cuDNN measures its algorithms, while the block runs and on CUDA only. The settings are those of the
    process, so they are tried in one of their own; a caller may have set them by torch's older or newer names."""
    subprocess.run([sys.executable, "-c", SETTINGS.format(newer=newer)], check=True)


@pytest.mark.parametrize("total, count, expected", [(7.0, 8, 0.5016), (4.0, 8, 0.4984), (6.0, 10, 0.5016)])
def test_adaptive_augmentation_compares_the_mean_sign_with_its_target(folder, total, count, expected):
    """0.6 is the target; p moves by batch * interval / (1000 kimg) = 4 * 4 / 10,000."""
    options = Options.for_resolution(16, augment="ada", augment_p=0.5, ada_kimg=10, **SMALL)
    trainer = GANTrainer(options, checked(folder))
    trainer.loss.real_signs.sums["sign"] = (torch.tensor(total), count)
    trainer._adapt()
    assert float(trainer.augment_pipe.p) == pytest.approx(expected, abs=1e-6)
    assert not trainer.loss.real_signs.sums
