"""Sets of recordings, WaveGAN in training, and the classifier of spoken digits."""
# Takes at most 12 CPU seconds.

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.analysis.digits import Judgement, inception_score, judge, set_measures
from stylegan_invert.cli.main import cli
from stylegan_invert.errors import TrainingError
from stylegan_invert.losses import parse
from stylegan_invert.losses.digits import RATE, digit_classifier, levels, resampled
from stylegan_invert.losses.spectrogram import mel_filters
from stylegan_invert.media.sound_set import SoundSet
from stylegan_invert.media.sounds import wav_bytes, write_wav
from stylegan_invert.networks.direction import DirectionDiscriminator, angles_to_z, z_to_angles
from stylegan_invert.networks.wavegan import SpectrogramDiscriminator, WaveGANDiscriminator
from stylegan_invert.training.architectures.wavegan_options import WaveGANOptions
from stylegan_invert.training.gan import GANTrainer
from stylegan_invert.training.spectrogram_loss import SECOND, spectrograms

LENGTH = 256


def recordings(folder, n=6, rate=8000):
    """Tones of rising pitch and falling loudness, named as spoken digits are."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        tone = np.sin(np.arange(300 - 20 * i) * (0.05 + 0.05 * i)) * 20000 / (i + 1)
        write_wav(folder / f"{i % 3}_voice{i % 2}_{i}.wav", np.rint(tone)[None].astype(np.int16), rate)
    return folder


# Sets of recordings


def test_a_set_of_recordings(tmp_path):
    """A folder and a zip give the same: cut, padded, in the order of names, with classes if these are asked for."""
    folder = recordings(tmp_path / "a")
    (folder / "notes.txt").write_text("no sound")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"sounds/{path.name}")
    a, b = SoundSet(folder, LENGTH, 8000, labels="names"), SoundSet(tmp_path / "a.zip", LENGTH, 8000)
    unread = a.sounds([1, 5])
    a.check()
    b.check()
    assert a.names == sorted(a.names) and [f"sounds/{name}" for name in a.names] == b.names
    assert np.array_equal(a.sounds([1, 5]), unread) and np.array_equal(a.sounds(range(6)), b.sounds(range(6)))
    assert a.sounds([0]).shape == (1, 1, LENGTH) and a.sounds([0]).dtype == np.int16
    assert a.labels.argmax(1).tolist() == [0, 0, 1, 1, 2, 2] and a.c_dim == 3 and b.c_dim == 0
    last = a.names.index("2_voice1_5.wav")
    assert (a.sounds([last])[0, 0, 200:] == 0).all() and (a.sounds([last])[0, 0, :200] != 0).sum() > 190
    some = SoundSet(folder, LENGTH, 8000, only=["*_voice1_*"], leave_out=["*_3.wav", "9_*"])
    assert some.names == ["1_voice1_1.wav", "2_voice1_5.wav"]
    assert SoundSet(**some.arguments).names == some.names
    loud = SoundSet(folder, LENGTH, 8000, level="peak")
    assert (np.abs(loud.sounds(range(6))).max(axis=2) == 32767).all()
    assert SoundSet(folder, 512, 16000).sounds([0]).shape == (1, 1, 512)
    (folder / "dataset.json").write_text(json.dumps({"labels": [[name, 1] for name in a.names]}))
    assert SoundSet(folder, LENGTH, 8000, labels="file").labels.argmax(1).tolist() == [1] * 6


def test_batches_go_on_anywhere(tmp_path):
    data = SoundSet(recordings(tmp_path / "a"), LENGTH, 8000, labels="names")
    data.check()
    stream = data.batches(4, seed=3)
    first = [next(stream) for _ in range(4)]
    sounds, labels = next(data.batches(4, seed=3, start=12))
    assert torch.equal(sounds, first[3][0]) and torch.equal(labels, first[3][1])
    shown = torch.cat([s for s, _ in first])[:12, 0, :50]
    assert len({tuple(row.tolist()) for row in shown[:6]}) == 6 == len({tuple(row.tolist()) for row in shown[6:]})
    assert not torch.equal(shown[:6], shown[6:])


def test_sets_that_cannot_be_used(tmp_path):
    folder = recordings(tmp_path / "a", 2)
    (folder / "3_bad_0.wav").write_bytes(wav_bytes(np.zeros([1, 4], np.int16), 8000)[:20])
    data = SoundSet(folder, LENGTH, 8000)
    data.check()
    assert list(data.broken) == ["3_bad_0.wav"] and len(data) == 2
    with pytest.raises(TrainingError, match="no sounds in it whose names match, of 3"):
        SoundSet(folder, LENGTH, 8000, only=["*.flac"])
    with pytest.raises(TrainingError, match="dataset.json is missing"):
        SoundSet(folder, LENGTH, 8000, labels="file")
    with pytest.raises(TrainingError, match="more than 4,294,967,296 bytes"):
        SoundSet(folder, 2**30, 8000)
    write_wav(folder / "seven.wav", np.ones([1, 9], np.int16), 8000)
    with pytest.raises(TrainingError, match="seven.wav: its name does not begin with the number"):
        SoundSet(folder, LENGTH, 8000, labels="names")


# WaveGAN in training


def command(folder, *arguments):
    result = CliRunner().invoke(cli, ["train", *map(str, arguments), "--quiet"])
    assert result.exit_code == 0, result.output
    return (folder / "log.jsonl").read_text().splitlines()


def options(data, outdir, sizes=True):
    """The options of a tiny run; without ``sizes`` those of one that begins with a network file."""
    run = ["--arch", "wavegan", "--data", data, "--outdir", outdir, "--level", "peak", "--batch", 3, "--D-steps", 2]
    run += ["--tick", 0.012, "--snap", 1, "--metric-samples", 8 if sizes else 0]
    return run + (["--dim", 2, "--z-dim", 4, "--length", LENGTH, "--sample-rate", 8000] if sizes else [])


@pytest.mark.parametrize("kind", ["published", "with all further parts"])
def test_a_run_that_was_stopped_ends_the_same(tmp_path, kind):
    """To the last bit; its network file gives the averaged generator, the discriminator and the head."""
    data = recordings(tmp_path / "data", 9)
    more = ["--head", "direction", "--spectrogram-weight", 1, "--loss", "nsgan", "--D-reg-interval", 2, "--ema-kimg", 1]
    more = [] if kind == "published" else more
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    command(whole, *options(data, whole), *more, "--kimg", 0.024)
    command(halves, *options(data, halves), *more, "--kimg", 0.012)
    command(halves, "--resume", halves, "--kimg", 0.024)
    a, b = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, halves))
    for name, tensors in a["modules"].items():
        assert all(torch.equal(value, b["modules"][name][key]) for key, value in tensors.items())
    assert torch.equal(a["random"], b["random"]) and a["nimg"] == b["nimg"] == 24
    line = json.loads((halves / "log.jsonl").read_text().splitlines()[-1])
    assert line["nimg"] == 24 and 0 < line["digit_confidence"] <= 1 and line["frechet_digits"] > 0
    net = si.load(halves / "network-snapshot-000000.safetensors")
    shown = "G_ema" if kind != "published" else "G"
    z = torch.rand(2, 4) * 2 - 1
    assert net.G.sample_rate == 8000 and net.G(z).shape == (2, 1, LENGTH)
    assert torch.equal(net.G.state_dict()["dense.weight"], b["modules"][shown]["dense.weight"])
    assert not any(SECOND in name for name in net.D.state_dict())
    for name in ("fakes000000.png", "fakes000000.wav", "reals.wav"):
        assert (halves / name).stat().st_size > 1000
    if kind != "published":
        found = net.direction.invert(net.G(z))
        assert found.shape == (2, 4) and float(found.abs().max()) <= 1
        wav = tmp_path / "one.wav"
        write_wav(wav, np.rint(net.G(z)[0].clamp(-1, 1).numpy() * 32767).astype(np.int16), 8000)
        result = si.project(net, wav, "de")
        target = torch.as_tensor(result.target)[None] / 32767
        assert torch.allclose(result.code.tensors["z"], net.direction.invert(target), atol=1e-5)
        further = tmp_path / "further"
        start = ["--resume", halves / "network-snapshot-000000.safetensors", "--kimg", 0.006, *more]
        command(further, *start, *options(data, further, sizes=False))
        assert si.load(further / "network-snapshot-000000.safetensors").G.length == LENGTH


def test_the_published_step(tmp_path):
    """Five batches for the discriminator, each with its penalty, and then one for the generator."""
    data = SoundSet(recordings(tmp_path / "data"), LENGTH, 8000)
    data.check()
    o = WaveGANOptions.for_data(data, dim=2, z_dim=4, batch=2)
    assert (o.loss, o.D_steps, o.gamma, o.lr, o.beta1, o.beta2, o.phase_shuffle) == (
        "wgan-gp",
        5,
        10,
        1e-4,
        0.5,
        0.9,
        2,
    )
    trainer = GANTrainer(o, data)
    assert [phase.name for phase in trainer.phases] == ["Dboth"] * 5 + ["Gmain"]
    before = {name: value.clone() for name, value in trainer.G.state_dict().items()}
    trainer.step()
    assert trainer.nimg == 10 and trainer.phases[0].optimiser.state_dict()["state"][0]["step"] == 5
    moved = {name: float((value - before[name]).abs().max()) for name, value in trainer.G.state_dict().items()}
    assert all(0.9e-4 < size < 1.1e-4 for size in moved.values())  # the first step of Adam is as long as the rate
    assert all(torch.equal(value, trainer.G_ema.state_dict()[n]) for n, value in trainer.G.state_dict().items())


def test_options_of_others_are_refused(tmp_path):
    data = recordings(tmp_path / "data")
    for flags, words in (
        (["--grey"], "--grey has no meaning with --arch wavegan"),
        (["--length", "100"], "length is 100; expected a power of two"),
    ):
        arguments = [str(a) for a in options(data, tmp_path / "run")]
        result = CliRunner().invoke(cli, ["train", *arguments, *flags])
        assert result.exit_code != 0 and words in result.output + str(result.exception)
    result = CliRunner().invoke(cli, ["train", "--data", str(data), "--outdir", str(tmp_path / "r"), "--level", "peak"])
    assert result.exit_code != 0 and "--level has no meaning with --arch stylegan2" in result.output


def test_the_second_discriminator_lowers_its_own_loss():
    """Its spectrograms are the decibels that NumPy computes, and it learns to tell tones from noise."""
    torch.manual_seed(0)
    sound = torch.randn(1, 1, 512) * 0.1
    frames = np.pad(sound[0, 0].numpy(), (0, 256))[64 * np.arange(8)[:, None] + np.arange(256)]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    size = np.abs(np.fft.rfft(frames * window)) * 4 / 256
    expected = np.clip(20 * np.log10(size), -60, None)[:, :128].T / 30 + 1
    assert np.abs(spectrograms(sound)[0, 0].numpy() - expected).max() < 1e-3
    S = SpectrogramDiscriminator(1, 128, 8, 2)
    assert S(spectrograms(sound)).shape == (1, 1)


def test_the_head_for_uniform_latents():
    """The angles of U(-1, 1) are uniform, and lead back to z."""
    z = torch.linspace(-0.99, 0.99, 7)[None]
    angles = z_to_angles(z, False, "uniform")
    assert torch.allclose(angles, (z + 1) * torch.pi / 4) and torch.allclose(
        angles_to_z(angles, "uniform"), z, atol=1e-6
    )
    D = DirectionDiscriminator(WaveGANDiscriminator(64, 2).eval(), 7, False, "uniform")
    assert torch.allclose(D.latents(D.target(z)), z, atol=1e-4)


# The classifier


def test_the_classifier_sees_what_its_description_says():
    """Spectrograms by NumPy; neither the loudness nor the sample rate of a sound changes what is seen."""
    random = np.random.default_rng(0)
    x = (random.standard_normal(2048) * np.hanning(2048) * 0.1).astype(np.float32)
    frames = np.pad(x, (0, 256))[64 * np.arange(32)[:, None] + np.arange(256)]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    mel = mel_filters(8000, 40, 256).numpy() @ (np.abs(np.fft.rfft(frames * window)).T * 4 / 256)
    decibels = 20 * np.log10(mel + 1e-7)
    expected = np.clip((decibels - decibels.max()) / 60 + 1, 0, None)
    sound = torch.from_numpy(x)[None, None]
    assert np.abs(levels(sound)[0, 0].numpy() - expected).max() < 1e-3
    assert torch.allclose(levels(sound * 3), levels(sound), atol=1e-3)
    sign = torch.tensor([1.0, -1.0]).repeat(1024)
    sound = sound - sign * (sound * sign).mean()  # nothing at half the sample rate, which no other rate could show
    twice = resampled(sound, RATE, 2 * RATE)
    assert torch.allclose(twice[..., ::2], sound, atol=1e-5)
    assert torch.allclose(levels(twice, 2 * RATE), levels(sound), atol=1e-3)
    assert levels(torch.zeros(1, 2, 100)).shape == (1, 1, 40, 16)
    assert float(levels(torch.zeros(1, 1, 100)).max()) < 0.2  # silence is not made loud


def test_the_loss_of_its_features():
    """It is the mean over four maps of squared differences, knows the sample rate, and has gradients."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 2, 1, 4096).mul(0.1).unbind(0)
    network = digit_classifier()
    pairs = [zip(network.maps(levels(x)), network.maps(levels(y))) for x, y in ((a, b),)][0]
    expected = sum((x - y).square().mean(dim=[1, 2, 3]) for x, y in pairs) / 4
    loss = parse("digits=1")
    assert torch.allclose(loss.between(a, b), expected) and (expected > 0).all()
    again = parse("digits=1")
    again.at_rate(16000)
    assert torch.allclose(again.between(resampled(a, 8000, 16000), resampled(b, 8000, 16000)), expected, rtol=0.05)
    sounds = b.clone().requires_grad_(True)
    loss(loss.prepare(a), sounds).sum().backward()
    assert float(sounds.grad.abs().max()) > 0 and torch.isfinite(sounds.grad).all()


def test_log_mel_follows_the_sample_rate():
    a, b = (torch.sin(torch.arange(4096) * w)[None, None] * 0.5 for w in (0.2, 0.21))
    loss, other = parse("log-mel=1"), parse("log-mel=1")
    other.at_rate(8000)
    assert torch.allclose(other.distances[0].filters, mel_filters(8000, 64, 512))
    assert float(loss.between(a, b)) != float(other.between(a, b))


def test_inception_score():
    """1 if all are judged alike, the number of classes if all are certain and even; and by hand in between."""
    assert inception_score(torch.full([10, 10], 0.1))[0] == pytest.approx(1)
    assert inception_score(torch.eye(10).repeat(3, 1)) == (pytest.approx(10), 0)
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    mean = p.mean(dim=0)
    by_hand = np.exp(np.mean([sum(q * np.log(q / m) for q, m in zip(row, mean.tolist())) for row in p.tolist()]))
    assert inception_score(p)[0] == pytest.approx(by_hand)
    value, spread = inception_score(torch.cat([p, p.flip(1)]), splits=2)
    assert value == pytest.approx(by_hand) and spread == pytest.approx(0, abs=1e-12)


def test_measures_of_a_set():
    """Equal sets have no distance, and sounds of one digit no entropy."""
    torch.manual_seed(0)
    sounds = torch.randn(12, 1, 2048) * torch.rand(12, 1, 1)
    judged = judge(sounds, RATE)
    assert judged.features.shape == (12, 96) and torch.allclose(judged.probabilities.sum(1), torch.ones(12).double())
    same = set_measures(judged, judged)
    assert same["frechet_digits"] == pytest.approx(0, abs=1e-4)
    one = set_measures(judged, Judgement(judged.features, torch.eye(10).double()[[3] * 12]))
    assert one["digit_entropy"] == 0 and one["digit_confidence"] == 1 and one["inception_score"] == pytest.approx(1)


def test_the_shipped_classifier(tmp_path):
    """It hears the digits of a speaker that it was not trained on."""
    fsdd = Path(__file__).parents[1].parent / "shared" / "data" / "fsdd.zip"
    if not fsdd.exists():
        pytest.skip(f"needs the Free Spoken Digit Dataset as {fsdd}")
    data = SoundSet(fsdd, 8192, 8000, labels="names", only=["*_theo_[0-4].wav", "*_yweweler_[0-4].wav"])
    found = judge(torch.from_numpy(data.sounds(range(len(data)))) / 32767, 8000).digits
    assert float((found == torch.from_numpy(data.labels).argmax(1)).float().mean()) > 0.8
