"""Sounds: their files, distances, metrics, and the search for codes of sounds."""
# Takes at most 15 CPU seconds.

import json
import math
import struct
import wave
import zipfile

import numpy as np
import pytest
import scipy.signal
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.errors import ImageFileError, ProjectionError, SoundFileError
from stylegan_invert.losses import parse, sound_metrics
from stylegan_invert.losses.spectrogram import RESOLUTIONS, mel_filters
from stylegan_invert.media.medium import medium_of_file
from stylegan_invert.media.pictures import read_png
from stylegan_invert.media.reading import SoundReading
from stylegan_invert.media.sound_medium import Sounds
from stylegan_invert.media.sounds import read_sound, resampled, write_wav
from stylegan_invert.media.targets import find_targets
from stylegan_invert.network_files import safetensors_file
from stylegan_invert.networks.wavegan import WaveGANGenerator
from stylegan_invert.projectors.projection import Projection
from stylegan_invert.projectors.projector import Projector

RATE = 8000


def make(length=1024, **kwargs):
    """A random WaveGAN whose sounds are loud."""
    torch.manual_seed(0)
    G = WaveGANGenerator(length, 3, 4, sample_rate=RATE, **kwargs).eval().requires_grad_(False)
    for name, value in G.named_parameters():
        if name.endswith("weight"):
            value.mul_(2)
    return G


def tone(frequency, rate, seconds, size=0.5):
    return size * np.sin(2 * math.pi * frequency * np.arange(round(rate * seconds)) / rate)


def wav(samples, rate, code=1, bits=16, extensible=False, extra=b""):
    """A WAV of samples (T,) or (T, channels) in [-1, 1], written by hand."""
    samples = np.asarray(samples, np.float64)
    samples = samples if samples.ndim == 2 else samples[:, None]
    if code == 3:
        body = samples.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        body = np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.rint(samples * (2 ** (bits - 1) - 1)).astype("<i8").reshape(-1, 1).view(np.uint8)
        body = np.ascontiguousarray(whole[:, : bits // 8]).tobytes()
    channels = samples.shape[1]
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * block, block, bits)
    form += struct.pack("<HHIH14x", 22, bits, 0, code) if extensible else b""
    chunks = b"".join(tag + struct.pack("<I", len(x)) + x + b"\0" * (len(x) % 2) for tag, x in
                      ((b"fmt ", form), (b"LIST", extra), (b"data", body)))  # fmt: skip
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


FORMATS = {
    "8 bits": (dict(bits=8), 5e-3),
    "16 bits": (dict(bits=16), 2e-5),
    "24 bits": (dict(bits=24), 1e-6),
    "32 bits": (dict(bits=32), 1e-6),
    "floats": (dict(code=3, bits=32), 1e-6),
    "doubles": (dict(code=3, bits=64), 1e-6),
    "extensible": (dict(bits=24, extensible=True), 1e-6),
    "a comment of odd length": (dict(extra=b"abc"), 2e-5),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind):
    kwargs, tolerance = FORMATS[kind]
    samples = np.stack([tone(440, 11025, 0.1, 1.0), tone(700, 11025, 0.1)], axis=1)
    found = read_sound(wav(samples, 11025, **kwargs), 0, 10)
    assert found.rate == 11025 and np.abs(found.samples - samples).max() <= tolerance
    later = read_sound(wav(samples, 11025, **kwargs), 0.05, 0.01)
    first = round(0.05 * 11025)
    assert np.array_equal(later.samples, found.samples[first : first + len(later.samples)])


def test_written_sounds_are_read_back(tmp_path):
    array = np.random.default_rng(0).integers(-32767, 32768, [2, 100]).astype(np.int16)
    medium = Sounds((2, 100), RATE)
    medium.write(tmp_path / "a.wav", array)
    with wave.open(str(tmp_path / "a.wav")) as file:  # the standard library's reader agrees
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 100)
        assert np.array_equal(np.frombuffer(file.readframes(100), "<i2").reshape(-1, 2).T, array)
    assert np.array_equal(medium.read_back(tmp_path / "a.wav"), array)
    again, _ = medium.read(tmp_path / "a.wav", SoundReading())
    assert np.array_equal(again, array)
    assert np.array_equal(medium.rounded(medium.tensor(array, "cpu")), array)


@pytest.mark.parametrize("rate", [44100, 11025, 16000])
def test_resampling(rate):
    """A tone stays the tone it is, and one that the new rate cannot hold is gone."""
    kept, lost = (resampled(tone(f, rate, 0.5)[:, None].astype(np.float32), rate, RATE)[:, 0] for f in (1000, 4200))
    expected = tone(1000, RATE, 0.5)
    inside = slice(200, len(expected) - 200)
    assert len(kept) == len(expected) and np.abs(kept - expected)[inside].max() < 1e-3
    assert np.abs(lost[inside]).max() < 1e-3


def test_how_a_recording_is_brought_to_shape(tmp_path):
    """It is mixed, resampled, cut and filled up, and the record says so."""
    left, right = tone(500, 16000, 0.2, 0.6), tone(900, 16000, 0.2, 0.2)
    (tmp_path / "a.wav").write_bytes(wav(np.stack([left, right], axis=1), 16000))
    medium = Sounds((1, 1024), RATE)
    array, about = medium.read(tmp_path / "a.wav", SoundReading())
    mixed = ((left + right) / 2)[::2][:1024]
    assert np.abs(array[0] / 32767 - mixed)[100:].max() < 2e-3
    assert about["mixed"] == "the mean of 2 channels" and "8000" in about["resampled"] and about["padded"] == 0

    array, about = medium.read(tmp_path / "a.wav", SoundReading(offset=0.1, level="peak"))
    assert about["padded"] == 1024 - 800 and not array[0, 800:].any() and np.abs(array).max() == 32767
    assert about["louder"] > 1 and about["offset"] == 0.1

    two, about = Sounds((2, 1024), 16000).read(tmp_path / "a.wav", SoundReading())
    assert np.abs(two / 32767 - np.stack([left, right])[:, :1024]).max() < 1e-4 and "mixed" not in about


def test_silent_clipped_and_truncated_recordings(tmp_path):
    medium = Sounds((1, 256), RATE)
    (tmp_path / "silent.wav").write_bytes(wav(np.zeros(300), RATE))
    array, about = medium.read(tmp_path / "silent.wav", SoundReading(level="peak"))
    assert about["silent"] and not array.any()
    (tmp_path / "loud.wav").write_bytes(wav(tone(100, RATE, 0.1, 3.0), RATE, code=3, bits=32))
    array, about = medium.read(tmp_path / "loud.wav", SoundReading())
    assert about["clipped"] > 100 and np.abs(array).max() == 32767
    (tmp_path / "cut.wav").write_bytes(wav(tone(100, RATE, 0.1), RATE)[:500])
    array, about = medium.read(tmp_path / "cut.wav", SoundReading())
    assert about["truncated"] == "the file ends after 224 of 800 samples" and about["padded"] == 32
    lasting = bytearray(wav(tone(100, RATE, 0.1), RATE))
    lasting[lasting.index(b"data") + 4 : lasting.index(b"data") + 8] = b"\xff" * 4  # as a program writes that streams
    assert "truncated" not in read_sound(lasting, 0, 1).about


GOOD = wav(tone(100, RATE, 0.1), RATE)
WRONG = {
    "empty file": (b"", "no sound that is read here"),
    "a text": (b"once upon a time", "no sound that is read here"),
    "no samples": (wav(np.zeros(0), RATE), "there are no samples"),
    "only the head": (GOOD[:12], "damaged"),
    "no description": (GOOD.replace(b"fmt ", b"tmf "), "without the description"),
    "no data": (GOOD.replace(b"data", b"atad"), "without samples"),
    "big-endian": (b"RIFX" + GOOD[4:], "save it as WAV"),
    "mu-law": (GOOD[:20] + b"\7\0" + GOOD[22:], "kind 7"),
    "no channels": (GOOD[:22] + b"\0\0" + GOOD[24:], "0 channels"),
    "a wrong size of blocks": (GOOD[:32] + b"\0\0" + GOOD[34:], "0 bytes together"),
    "a wrong rate": (GOOD[:24] + b"\xff" * 4 + GOOD[28:], "4,294,967,295 samples per second"),
    "not finite": (wav(np.array([0.0, np.nan] * 8), RATE, code=3, bits=32), "not finite"),
    "a FLAC": (b"fLaC" + b"\0" * 40, "soundfile|cannot be decoded"),
    "an OGG": (b"OggS" + b"\0" * 40, "soundfile|cannot be decoded"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_are_no_sounds(tmp_path, kind):
    data, words = WRONG[kind]
    (tmp_path / "a.wav").write_bytes(data)
    for read in (lambda: Sounds((1, 256), RATE).read(tmp_path / "a.wav", SoundReading()),
                 lambda: Sounds.check_file(tmp_path / "a.wav", SoundReading())):  # fmt: skip
        with pytest.raises(SoundFileError, match=words) as e:
            read()
        assert str(e.value).startswith(str(tmp_path / "a.wav")) and "\n" not in str(e.value)


def test_other_refusals(tmp_path):
    (tmp_path / "a.wav").write_bytes(GOOD)
    with pytest.raises(SoundFileError, match="give a smaller --offset"):
        Sounds((1, 256), RATE).read(tmp_path / "a.wav", SoundReading(offset=5))
    with pytest.raises(SoundFileError, match="int16"):
        Sounds((1, 256), RATE).read(np.zeros([1, 100], np.int16), SoundReading())
    with pytest.raises(SoundFileError, match="there is no such file"):
        Sounds((1, 256), RATE).read(tmp_path / "b.wav", SoundReading())
    (tmp_path / "b.wav").write_bytes(wav(np.zeros(8), RATE, bits=8))
    with pytest.raises(SoundFileError, match="16-bit integers"):
        Sounds.read_back(tmp_path / "b.wav")


def test_folders_and_zips_of_sounds(tmp_path):
    """A folder or zip stands for its pictures, or for its sounds where it has none."""
    for name in ("b.wav", "a.WAV", "c.txt"):
        (tmp_path / name).write_bytes(GOOD)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as z:
        z.writestr("one.wav", GOOD)
    assert [p.name for p in find_targets([str(tmp_path)])] == ["a.WAV", "b.wav"]
    (packed,) = find_targets([str(tmp_path / "all.zip")])
    array, _ = Sounds((1, 256), RATE).read(packed, SoundReading())
    assert medium_of_file(packed) is Sounds and array.any()
    (tmp_path / "cover.png").write_bytes(b"")
    assert [p.name for p in find_targets([str(tmp_path)])] == ["cover.png"]


# Distances and metrics


def their_stft(x, frame, hop):
    """The transform (frequencies, frames) of a sound (T,), by scipy."""
    x = np.pad(x, (0, (-(-len(x) // hop) - 1) * hop + frame - len(x)))
    return (
        scipy.signal.stft(x, window="hann", nperseg=frame, noverlap=frame - hop, boundary=None, padded=False)[2]
        * frame
        / 2
    )


def their_mel(x):
    """The logarithms in bands, with triangles by another formula."""
    points = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 66) / 2595) - 1)
    frequencies = np.linspace(0, 8000, 257)
    rows = []
    for low, middle, high in zip(points, points[1:], points[2:]):
        row = np.interp(frequencies, [low, middle, high], [0, 1, 0], left=0, right=0)
        rows.append(row if row.any() else (np.arange(257) == np.abs(frequencies - middle).argmin()).astype(float))
    return np.log10(1e-4 + np.stack(rows) @ (np.abs(their_stft(x, 512, 128)) * 4 / 512))


def their_multi(x, y):
    total = 0
    for frame in RESOLUTIONS:
        a, b = (np.abs(their_stft(s, frame, frame // 4)) * 4 / frame for s in (x, y))
        logs = np.abs(np.log(np.maximum(a, 1e-4)) - np.log(np.maximum(b, 1e-4))).mean()
        total += np.linalg.norm(a - b) / np.linalg.norm(a) + logs
    return total / len(RESOLUTIONS)


THEIRS = {
    "mse": lambda x, y: ((x - y) ** 2).mean(),
    "l1": lambda x, y: np.abs(x - y).mean(),
    "spectrogram": lambda x, y: (
        np.abs(np.abs(their_stft(x, 256, 128)) - np.abs(their_stft(y, 256, 128))).mean() * 4 / 256
    ),
    "spectrogram-real": lambda x, y: np.abs(their_stft(x, 256, 128).real - their_stft(y, 256, 128).real).mean(),
    "log-mel": lambda x, y: np.abs(their_mel(x) - their_mel(y)).mean(),
    "multi-stft": their_multi,
}


@pytest.mark.parametrize("name", THEIRS)
def test_distances(name):
    random = np.random.default_rng(0)
    a, b = (0.3 * random.standard_normal([2, 1, 1000]).clip(-3, 3) for _ in range(2))
    loss = parse(name)
    got = loss.between(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    np.testing.assert_allclose(got, [THEIRS[name](x[0], y[0]) for x, y in zip(a, b)], rtol=2e-4)
    for quiet in (torch.zeros(1, 1, 300), torch.rand(1, 1, 300)):  # gradients at silence, and at the target itself
        x = quiet.clone().requires_grad_(True)
        loss(loss.prepare(quiet), x).sum().backward()
        assert torch.isfinite(x.grad).all()
    with pytest.raises(ValueError, match="expected"):
        loss.prepare(torch.full([1, 1, 300], 3.0))


def test_mel_bands_at_low_rates_are_not_empty():
    assert (mel_filters(8000, 64, 512).sum(dim=1) > 0).all()


def test_metrics():
    random = np.random.default_rng(0)
    a = (tone(600, RATE, 0.3)[None] * 32767).astype(np.int16)
    b = (a + 500 * random.standard_normal(a.shape)).astype(np.int16)
    got = sound_metrics(torch.from_numpy(a), torch.from_numpy(b), {"mse": parse("mse")})
    x, y = a[0] / 32767, b[0] / 32767
    assert got["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert got["snr"] == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))
    assert got["mse"] == pytest.approx(((x - y) ** 2).mean(), rel=1e-4)
    levels = [np.maximum(20 * np.log10(np.abs(their_stft(s, 256, 128)) * 4 / 256 + 1e-12), -80) for s in (x, y)]
    assert got["log_spectral_distance"] == pytest.approx(
        np.sqrt(((levels[0] - levels[1]) ** 2).mean(axis=0)).mean(), rel=1e-3
    )
    assert 0 < got["spectrogram_ssim"] < 0.9
    same = sound_metrics(torch.from_numpy(a), torch.from_numpy(a), {})
    assert same["snr"] is None and same["spectrogram_ssim"] == pytest.approx(1)
    silent = sound_metrics(torch.zeros(1, 100, dtype=torch.int16), torch.from_numpy(a[:, :100]), {})
    assert silent["correlation"] is None and silent["snr"] is None and silent["spectrogram_ssim"] is None


def test_a_spectrogram_is_seen():
    """A low tone is bright at the bottom, and a high one at the top."""
    medium = Sounds((1, 1024), RATE)
    for frequency, place in ((500, 0.875), (3500, 0.125)):
        picture = medium.seen((tone(frequency, RATE, 0.128)[None] * 32767).astype(np.int16))
        brightest = picture.astype(int).sum(axis=0)[:, 20:-80].mean(axis=1).argmax() / picture.shape[1]
        assert abs(brightest - place) < 0.03


# Searches

METHODS = {
    "fast-z": dict(steps=40),
    "z by L-BFGS-B": dict(method="z", optimizer="lbfgs-b", steps=40),
    "z by L-BFGS": dict(method="z", optimizer="lbfgs", steps=40, init="nearest"),
    "z by Adam": dict(method="z", optimizer="adam", steps=120, restarts=2),
    "fast-dense": dict(steps=20, layer_steps=10),
}


@pytest.mark.parametrize("name", METHODS)
def test_generated_sounds_come_back(name, monkeypatch):
    from stylegan_invert.projectors import samples

    monkeypatch.setattr(samples, "COUNT", 64)
    G, options = make(), dict(METHODS[name])
    medium = Sounds((1, 1024), RATE)
    with torch.no_grad():
        target = medium.rounded(G(torch.tensor([[0.5, -0.4, 0.2]]))[0])
    result = si.project(G, target, options.pop("method", name), **options)
    assert result.metrics["correlation"] > 0.99, result.metrics
    assert result.record["options"]["loss"] == ("mse=1" if name.startswith("z ") else "multi-stft=1,l1=1")


def test_a_loss_of_pictures_is_refused():
    G, target = make(256), np.zeros([1, 256], np.int16)
    with pytest.raises(ProjectionError, match="lpips-squeeze in the loss .* cannot compare sounds.*multi-stft"):
        si.project(G, target, "z", loss="lpips-squeeze=1,mse=1")
    with pytest.raises(ProjectionError, match="cannot compare pictures"):
        from conftest import make_network

        si.project(make_network(16), np.zeros([3, 16, 16], np.uint8), "w", loss="log-mel")


def test_the_commands(tmp_path):
    """A recording is projected, with spectrograms and a page that plays it; codes and lines between them are sounds."""
    net = str(tmp_path / "net.safetensors")
    safetensors_file.write(si.NetworkFile({"G_ema": make()}), net)
    (tmp_path / "seven.wav").write_bytes(wav(np.stack([tone(300, 11025, 0.3)] * 2, axis=1), 11025, bits=24))

    def run(*args, code=0):
        result = CliRunner().invoke(cli, [str(a) for a in args])
        assert result.exit_code == code, result.output
        return result.output + str(result.exception or "")

    z = ("--method", "z", "--steps", 3, "-q")
    run("project", "-n", net, "-t", tmp_path / "seven.wav", "-o", tmp_path / "out", *z, "--level", "peak")
    names = {"target.wav", "proj.wav", "spectrograms.png", "projected_z.npz", "result.json"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["medium"] == "sound" and record["target"]["louder"] == pytest.approx(2, rel=0.02)
    result = Projection.read(tmp_path / "out")
    assert result.medium.sample_rate == RATE and result.target.shape == (1, 1024)
    assert read_png(tmp_path / "out" / "spectrograms.png").shape[0] == 3

    run("generate", "-n", net, "--projected-w", tmp_path / "out", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "proj00.wav").read_bytes() == (tmp_path / "out" / "proj.wav").read_bytes()
    run("interpolate", "-n", net, tmp_path / "out", "seed:2", "-o", tmp_path / "line", "--frames", 3, "--video")
    assert Sounds.read_back(tmp_path / "line" / "interpolation.wav").shape == (1, 4 * 1024)
    assert (tmp_path / "line" / "frame0002.wav").exists() and (tmp_path / "line" / "sheet.png").exists()
    run("report", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<audio controls src="data:audio/wav;base64,') == 2 and "media-src data:" in page
    assert "SNR, dB" in page and "LPIPS" not in page

    (tmp_path / "no.wav").write_bytes(b"")
    output = run("project", "-n", net, "-t", tmp_path / "no.wav", "-o", tmp_path / "none", code=1)
    assert "no sound that is read here" in output and not (tmp_path / "none").exists()
    output = run("project", "-n", net, "-t", tmp_path / "out" / "spectrograms.png", "-o", tmp_path / "none", *z, code=1)
    assert "expected WAV, FLAC or OGG" in output
    output = run("distance", "-n", net, "--data", tmp_path, code=1)
    assert "this network makes sounds; this command is for networks of pictures" in output


def test_a_sound_is_no_target_of_a_network_of_pictures(tmp_path):
    from conftest import make_network

    (tmp_path / "a.wav").write_bytes(GOOD)
    with pytest.raises(ImageFileError, match="a.wav"):
        si.project(make_network(16), str(tmp_path / "a.wav"), "w", steps=1)


def test_a_record_of_no_sound_is_refused(tmp_path):
    G = make(256)
    si.project(G, np.zeros([1, 256], np.int16), "z", steps=1).save(tmp_path)
    file = tmp_path / "result.json"
    file.write_text(file.read_text().replace('"sample_rate": 8000', '"sample_rate": "many"'))
    with pytest.raises(SoundFileError, match="samples per second"):
        Projection.read(tmp_path)


def test_writing_fails_whole(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros([1, 4], np.int16), RATE)
    with pytest.raises(wave.Error):
        write_wav(tmp_path / "a.wav", np.zeros([0, 4], np.int16), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and read_sound(tmp_path / "a.wav", 0, 1).rate == RATE


def test_observed_sounds(tmp_path):
    """A sound that is found through noise comes back as a sound, with its metrics; what only pictures have is refused."""
    G = make(256)
    target = np.rint(G(torch.full([1, 3], 0.4))[0].clamp(-1, 1).numpy() * 32767).astype(np.int16)
    made = Projector(G, method="z", observe="noise:0.01", optimizer="lbfgs", steps=30, restarts=2)
    (result,) = made.project([target], init="random")
    result.save(tmp_path / "out")
    saved = read_sound(tmp_path / "out" / "target.wav", 0, 1)
    assert saved.rate == RATE and saved.samples.shape[0] == 256
    assert result.metrics["truth"]["correlation"] > 0.9
    half = Projector(G, method="z", observe=lambda x: x[..., ::2], observed=True, steps=2)
    assert half.view.seen.shape == (1, 128) and half.view.seen.sample_rate == RATE
    for text in ("blur:2", "noise:0.1,downsample:2", "grey"):
        with pytest.raises(ProjectionError, match="cannot be observed of a sound; for sounds there are noise"):
            Projector(G, method="z", observe=text)
