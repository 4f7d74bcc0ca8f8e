"""The table of readers for `fuzz.py`: how a small valid file of each kind is made, and the function that reads it."""

import http.client
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import safetensors.torch
import torch

import stylegan_invert as si
from stylegan_invert.errors import (
    CodeFileError,
    DownloadError,
    EncoderFileError,
    ImageFileError,
    NetworkFileError,
    SoundFileError,
    TrainingError,
)
from stylegan_invert.generator import Code, adapt
from stylegan_invert.network_files.file import load
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.networks.stylegan3 import Generator as StyleGAN3

MIB = 1 << 20
PIL.Image.init()  # every plugin is imported now, and not when a damaged picture looks like one of its kind


class Reader(NamedTuple):
    """One kind of file.

    Attributes:
        make: called with an empty folder; writes the files and returns the path of the one to damage.
        read: called with the path of a damaged copy, in a folder with the other files; reads it and uses what it holds.
        error: what it may raise.
        weight: how often it is tried, compared with others.
        mib: the memory in MiB that it may take, above that of the process.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    weight: int = 1
    mib: int = 192


# Networks


def use_network(path: Path) -> None:
    """Open a network file, build all its networks, draw a picture, and describe it."""
    net = load(path.parent if path.name in ("config.json", "pytorch_model.bin") else path)
    D, _ = net["D"], net["G"]
    generator = adapt(net.G)
    c = torch.eye(generator.c_dim)[:1] if generator.c_dim else None
    image = generator.render(Code("z", {"z": torch.ones([1, net.G.z_dim])}, c), "const")
    if D is not None and type(D).__module__.endswith("discriminators"):
        D(image, c)
    _ = net.info


def tiny(**kwargs: Any) -> Generator:
    torch.manual_seed(0)
    return Generator(4, 0, 4, 8, 1, mapping_kwargs={"num_layers": 1},
                     synthesis_kwargs={"channel_base": 16, "channel_max": 2, **kwargs})  # fmt: skip


def stylegan2(folder: Path) -> Path:
    si.save(tiny(), folder / "net.pkl")
    return folder / "net.pkl"


def stylegan3(folder: Path) -> Path:
    G = StyleGAN3(4, 0, 4, 16, 1, num_layers=2, num_critical=1, channel_base=32, channel_max=2)
    si.save(G, folder / "net.pkl")
    return folder / "net.pkl"


def safetensors_network(folder: Path) -> Path:
    from stylegan_invert.network_files import safetensors_file

    safetensors_file.write(load(stylegan2(folder)), folder / "net.safetensors")
    return folder / "net.safetensors"


def state_dict(folder: Path) -> Path:
    torch.save(tiny().state_dict(), folder / "g.pt")
    return folder / "g.pt"


def old_state_dict(folder: Path) -> Path:
    torch.save(tiny().state_dict(), folder / "g.pt", _use_new_zipfile_serialization=False)
    return folder / "g.pt"


def state_dict3(folder: Path) -> Path:
    G = StyleGAN3(4, 0, 4, 16, 1, num_layers=4, channel_base=32, channel_max=2)
    torch.save(G.state_dict(), folder / "g.pt")
    return folder / "g.pt"


def dcgan(folder: Path) -> Path:
    nn = torch.nn
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1))
    torch.save(net.state_dict(), folder / "g.pt")
    return folder / "g.pt"


def rosinality(folder: Path) -> Path:
    import test_convert

    tensors = test_convert.their_generator((4, 2), n_mlp=1)
    torch.save({"g_ema": tensors, "d": test_convert.their_discriminator((2, 4))}, folder / "g.pt")
    return folder / "g.pt"


def of_family(name: str, damaged: str = "") -> Callable[[Path], Path]:
    """A file that `test_families` makes."""

    def make(folder: Path) -> Path:
        import test_families

        path = test_families.FAMILIES[name](folder)
        return folder / damaged if damaged else path

    return make


# Other files


def codes(folder: Path) -> Path:
    np.savez(folder / "projected_w.npz", w=np.zeros([1, GENERATOR.network.num_ws, 4], np.float32))
    return folder / "projected_w.npz"


def packed_codes(folder: Path) -> Path:
    layer, shape = next(iter(GENERATOR.layers().items()))
    arrays = {"w": np.zeros([1, GENERATOR.network.num_ws, 4], np.float32), "h": np.ones([1, *shape], np.float32)}
    np.savez_compressed(folder / "projected_w.npz", **arrays, layer=layer)
    return folder / "projected_w.npz"


def use_codes(path: Path) -> None:
    from stylegan_invert.generator.adapt import check_code
    from stylegan_invert.io.codes import read_codes

    check_code(read_codes(path), GENERATOR, "codes")
    read_codes(path, prefer_z=True)


GENERATOR = adapt(tiny().eval().requires_grad_(False))


def statistics(folder: Path) -> Path:
    from stylegan_invert.io.gaussian_file import write_gaussian

    write_gaussian(folder / "stats.safetensors", GENERATOR.gaussian(), GENERATOR)
    return folder / "stats.safetensors"


def use_statistics(path: Path) -> None:
    from stylegan_invert.io.gaussian_file import read_gaussian

    GENERATOR.with_gaussian(None, read_gaussian(path, GENERATOR)).convert(GENERATOR.center("w"), "v")


def encoder(folder: Path) -> Path:
    from stylegan_invert.generator.encoding import entries
    from stylegan_invert.io.encoder_file import About, write_encoder
    from stylegan_invert.networks.encoder import Encoder

    about = About("w+", GENERATOR.sha256(), 0, 1, {"loss": "mse"})
    write_encoder(folder / "encoder.safetensors", Encoder(1, 8, entries(GENERATOR, "w+"), width=1), about)
    return folder / "encoder.safetensors"


def weights(form: str) -> Callable[[Path], Path]:
    """Makes weights of a distance in a checkpoint of torch.save ("pt"), or as safetensors. The network is a small one."""

    def make(folder: Path) -> Path:
        state = {"layer.weight": torch.ones([4, 3]), "layer.bias": torch.zeros([4], dtype=torch.float16)}
        if form == "pt":
            torch.save(
                {"epoch": 3, "state_dict_backbone": {f"module.{name}": x for name, x in state.items()}}, folder / "w.pt"
            )
        else:
            safetensors.torch.save_file(state, folder / "w.safetensors")
        return folder / f"w.{form}"

    return make


def use_weights(path: Path) -> None:
    from stylegan_invert.files.door import Kind
    from stylegan_invert.files.plain import Misfit
    from stylegan_invert.files.tensors import tables, unwrapped
    from stylegan_invert.losses.weight_files import read_weights, with_weights

    stored = read_weights(path, Kind("weights", MIB, ValueError), None, "", "a state dict instead")
    for _, tensors, _ in tables(stored):
        if len(tensors) < 2:
            continue
        try:
            network = with_weights(lambda: torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 4)}), unwrapped(tensors))
        except Misfit as e:
            raise ValueError(f"{path}: {e}") from None
        network["layer"](torch.zeros([1, 3]))


def use_encoder(path: Path) -> None:
    from stylegan_invert.io.encoder_file import read_encoder

    encoding, _ = read_encoder(path, GENERATOR, any_network=True)
    encoding.encode(torch.zeros([1, 1, 8, 8]))


def direction(folder: Path) -> Path:
    from stylegan_invert.generator.directions import of_step
    from stylegan_invert.io.direction_file import write_direction

    write_direction(folder / "d.safetensors", of_step("smile", "w", torch.ones(4), GENERATOR, {"way": "test"}, [0, 1]))
    return folder / "d.safetensors"


def use_direction(path: Path) -> None:
    from stylegan_invert.generator.directions import moved
    from stylegan_invert.io.direction_file import read_description, read_direction

    read_description(path)
    moved(GENERATOR, GENERATOR.center("w"), read_direction(path, GENERATOR), 1.5)


def projection(folder: Path) -> Path:
    target = torch.full([1, 8, 8], 128, dtype=torch.uint8)
    si.project(GENERATOR.network, target, "z", loss="mse=1", steps=2, optimizer="adam").save(folder)
    return folder / "result.json"


def use_projection(path: Path) -> None:
    from stylegan_invert.projectors.projection import Projection

    Projection.read(path.parent)


def picture_bytes(seed: int, kind: str = "PNG", side: int = 8, mode: str = "RGB") -> bytes:
    pixels = np.random.RandomState(seed).randint(256, size=(side, side, 3)).astype(np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(out, kind)
    return out.getvalue()


def picture(kind: str, mode: str = "RGB") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "picture.bin").write_bytes(picture_bytes(0, kind, 24, mode))
        return folder / "picture.bin"

    return make


def use_picture(path: Path) -> None:
    from stylegan_invert.media.pictures import read_picture

    for fit in ("crop", "pad"):
        read_picture(path, 8, 3, fit=fit)


def wavegan(suffix: str) -> Callable[[Path], Path]:
    """A checkpoint of WaveGAN's port (.pt), variables of official code (.npz), or its checkpoint (.index)."""

    def make(folder: Path) -> Path:
        import test_wavegan

        from stylegan_invert.networks.wavegan import WaveGANDiscriminator, WaveGANGenerator

        path = folder / f"net{suffix}"
        if suffix == ".npz":
            np.savez(path, **test_wavegan.variables(length=64))
        elif suffix == ".index":
            test_wavegan.tf_checkpoints.write(folder / "net", test_wavegan.variables(length=64))
        else:
            G = WaveGANGenerator(64, 3, 2, arrangement="port")
            torch.save(test_wavegan.port_state(G, WaveGANDiscriminator(64, 2, arrangement="port")), path)
        return path

    return make


def sound(**kwargs: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import test_sounds

        (folder / "sound.wav").write_bytes(test_sounds.wav(test_sounds.tone(300, 11025, 0.02), 11025, **kwargs))
        return folder / "sound.wav"

    return make


def use_sound(path: Path) -> None:
    from stylegan_invert.media.reading import SoundReading
    from stylegan_invert.media.sound_medium import Sounds

    medium = Sounds((1, 256), 8000)
    medium.seen(medium.read(path, SoundReading(level="peak"))[0])


def points(folder: Path) -> Path:
    face = [[30, 30]] * 36 + [[20.5, 20]] * 6 + [[40, 21]] * 6 + [[24, 40]] * 6 + [[36, 41]] * 14
    wild = {"file_path": "w/b.png", "pixel_size": [60, 50], "face_landmarks": face}
    table = {"a.png": [[20, 20], [40, 21], [30, 30], [24, 40], [36, 40.5]], "0": {"in_the_wild": wild}}
    (folder / "landmarks.json").write_text(json.dumps(table))
    return folder / "landmarks.json"


def use_points(path: Path) -> None:
    from stylegan_invert.media.alignment import crop, face_quad
    from stylegan_invert.media.landmarks import read_landmarks

    landmarks = read_landmarks(path)
    for name in ("a.png", "b.png"):
        crop(PIL.Image.new("RGB", (60, 50)), face_quad(landmarks.of(name)), 8)


def aligned(folder: Path) -> Path:
    from stylegan_invert.media.alignment import read_aligned
    from stylegan_invert.media.landmarks import Face

    (folder / "photo.png").write_bytes(picture_bytes(0, side=60))
    face = Face(np.array([[20, 20], [40, 21], [30, 30], [24, 40], [36, 40.5]]))
    _, record = read_aligned(folder / "photo.png", face, 8, 3)
    (folder / "result.json").write_text(json.dumps({"target": record.as_dict()}))
    return folder / "result.json"


def use_aligned(path: Path) -> None:
    from stylegan_invert.media.alignment import paste, read_record

    about = read_record(path)
    paste(PIL.Image.new("RGB", (60, 60)), PIL.Image.new("RGB", (8, 8)), about["quad"], about["resolution"])


def dataset(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "set.zip", "w") as z:
        names = [f"00000/img{i:08d}.png" for i in range(3)]
        for i, name in enumerate(names):
            z.writestr(name, picture_bytes(i))
        z.writestr("dataset.json", json.dumps({"labels": [[name, i] for i, name in enumerate(names)]}))
    return folder / "set.zip"


def labels(folder: Path) -> Path:
    """A folder of pictures, whose dataset.json is damaged."""
    for i in range(3):
        (folder / f"{i}.png").write_bytes(picture_bytes(i))
    (folder / "dataset.json").write_text(json.dumps({"labels": [["0.png", 0], ["1.png", 1], ["2.png", 1]]}))
    return folder / "dataset.json"


def use_dataset(path: Path) -> None:
    from stylegan_invert.media.picture_set import PictureSet

    data = PictureSet(path.parent if path.name == "dataset.json" else path, use_labels=True)
    data.check()
    data.pictures([0])


# A run of training


def run_folder(damaged: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from stylegan_invert.training import loop

        trainer = new_trainer(folder)
        loop._begin(trainer, folder, {"tick_kimg": 0.004, "snapshot_ticks": 1})
        for _ in range(2):
            trainer.step()
        loop._Run(trainer, folder, None).save()
        (folder / "log.jsonl").write_text("".join(json.dumps({"nimg": 2 * i, "loss": 0.5}) + "\n" for i in (1, 2)))
        return folder / damaged

    return make


def new_trainer(folder: Path) -> Any:
    from stylegan_invert.media.picture_set import PictureSet
    from stylegan_invert.training.configs import Options
    from stylegan_invert.training.gan import GANTrainer

    pictures = folder / "set.zip"
    data = PictureSet(pictures if pictures.exists() else dataset(folder))
    data.check()
    options = Options.for_resolution(8, z_dim=3, w_dim=3, channel_base=16, channel_max=2, batch=2, kimg=1)
    return GANTrainer(options, data)


TRAINERS: list[Any] = []  # one, made with the first file


def use_checkpoint(path: Path) -> None:
    from stylegan_invert.training import loop

    if not TRAINERS:
        TRAINERS.append(new_trainer(path.parent))
    loop._resume(TRAINERS[0], path.parent)


def use_options(path: Path) -> None:
    from stylegan_invert.training import loop
    from stylegan_invert.training.configs import Options
    from stylegan_invert.training.gan import RHYTHM

    loop.read_options(path.parent, Options, RHYTHM)


def use_log(path: Path) -> None:
    from stylegan_invert.training import loop

    list(loop._lines(path))


# Downloads


def answer(folder: Path) -> Path:
    """A server's answer: a line of status, headers, and a network file packed by gzip."""
    import gzip

    body = gzip.compress(stylegan2(folder).read_bytes())
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Encoding: gzip\r\n"
    (folder / "answer").write_bytes(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return folder / "answer"


class _Socket:
    def __init__(self, data: bytes):
        self.data = data

    def makefile(self, *args: Any, **kwargs: Any) -> io.BytesIO:
        return io.BytesIO(self.data)


def use_answer(path: Path) -> None:
    """`download` with this answer in place of a server's, into a cache beside the file."""
    import os
    from unittest import mock

    import requests
    import urllib3

    from stylegan_invert.io.download import download

    def get(url: str, **kwargs: Any) -> requests.Response:
        raw = http.client.HTTPResponse(_Socket(path.read_bytes()), method="GET", url=url)
        try:
            raw.begin()
        except (http.client.HTTPException, ValueError) as e:  # as the package requests reports it
            raise requests.exceptions.ConnectionError(e) from None
        body = urllib3.HTTPResponse(body=raw, headers=dict(raw.headers), status=raw.status, preload_content=False,
                                    original_response=raw, decode_content=False)  # fmt: skip
        return requests.adapters.HTTPAdapter().build_response(requests.Request("GET", url).prepare(), body)

    os.environ["STYLEGAN_INVERT_CACHE"] = str(path.parent / "cache")
    with mock.patch("requests.get", get), mock.patch("tqdm.tqdm", _Bar):
        kept = download("http://user:secret@example.org/x/net.pkl?token=secret", timeout=1, patience=1)
        kept.read_bytes()


class _Bar:
    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


PICTURES = {"PNG": "RGB", "JPEG": "RGB", "GIF": "P", "BMP": "RGB", "TIFF": "RGB", "WEBP": "RGB", "PPM": "RGB"}

READERS = {
    "StyleGAN2": Reader(stylegan2, use_network, NetworkFileError, 4),
    "StyleGAN3": Reader(stylegan3, use_network, NetworkFileError),
    "safetensors": Reader(safetensors_network, use_network, NetworkFileError, 3),
    "state dict of StyleGAN2": Reader(state_dict, use_network, NetworkFileError),
    "old state dict": Reader(old_state_dict, use_network, NetworkFileError),
    "state dict of StyleGAN3": Reader(state_dict3, use_network, NetworkFileError),
    "DCGAN": Reader(dcgan, use_network, NetworkFileError, 2),
    "rosinality": Reader(rosinality, use_network, NetworkFileError),
    "WaveGAN": Reader(wavegan(".pt"), use_network, NetworkFileError),
    "WaveGAN of TensorFlow, converted": Reader(wavegan(".npz"), use_network, NetworkFileError),
    "checkpoint of TensorFlow": Reader(wavegan(".index"), use_network, NetworkFileError),
    "sound": Reader(sound(), use_sound, SoundFileError),
    "sound, 24 bits": Reader(sound(bits=24, extensible=True), use_sound, SoundFileError),
    "sound, floats": Reader(sound(code=3, bits=32), use_sound, SoundFileError),
    "StyleGAN of TensorFlow": Reader(of_family("stylegan1"), use_network, NetworkFileError),
    "ProGAN of TensorFlow": Reader(of_family("progan"), use_network, NetworkFileError),
    "BigGAN": Reader(of_family("biggan"), use_network, NetworkFileError),
    "BigGAN, settings": Reader(of_family("biggan", "state_dict_best0.pth"),
                               lambda path: use_network(path.with_name("G_ema_best0.pth")), NetworkFileError),
    "Hugging Face, settings": Reader(of_family("hugging_face", "config.json"), use_network, NetworkFileError),
    "Hugging Face, weights": Reader(of_family("hugging_face", "pytorch_model.bin"), use_network, NetworkFileError),
    "codes": Reader(codes, use_codes, CodeFileError, 2),
    "packed codes": Reader(packed_codes, use_codes, CodeFileError),
    "statistics": Reader(statistics, use_statistics, CodeFileError),
    "direction": Reader(direction, use_direction, CodeFileError),
    "encoder": Reader(encoder, use_encoder, EncoderFileError),
    "weights": Reader(weights("pt"), use_weights, ValueError),
    "weights, safetensors": Reader(weights("safetensors"), use_weights, ValueError),
    "result": Reader(projection, use_projection, CodeFileError),
    "landmarks": Reader(points, use_points, ImageFileError),
    "aligned": Reader(aligned, use_aligned, ImageFileError),
    "dataset": Reader(dataset, use_dataset, TrainingError, 2),
    "labels": Reader(labels, use_dataset, TrainingError),
    "checkpoint": Reader(run_folder("checkpoint.pt"), use_checkpoint, TrainingError, 2),
    "training options": Reader(run_folder("training_options.json"), use_options, TrainingError),
    "training log": Reader(run_folder("log.jsonl"), use_log, TrainingError),
    "download": Reader(answer, use_answer, DownloadError),
    **{f"picture: {kind}": Reader(picture(kind, mode), use_picture, ImageFileError) for kind, mode in PICTURES.items()},
}  # fmt: skip
"""Name of a kind of file to its `Reader`."""

_ = safetensors.torch  # imported here, so that no reader has to
