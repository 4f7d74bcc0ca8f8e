"""Encoders: their coordinates, training and files, and projections that begin with them."""
# Takes at most 30 CPU seconds.

import dataclasses
import json
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from test_training import jpeg

import stylegan_invert as si
from stylegan_invert import pretrained
from stylegan_invert.cli.main import cli
from stylegan_invert.cli.train_encoder import resnet
from stylegan_invert.errors import EncoderFileError, TrainingError
from stylegan_invert.generator import Code, adapt, with_prior
from stylegan_invert.generator.encoding import Encoding, entries
from stylegan_invert.io import encoder_file
from stylegan_invert.io.encoder_file import HEADER, SHIPPED, About, read_encoder, shipped_for, write_encoder
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.media.pictures import as_images, write_png
from stylegan_invert.networks.biggan import BigGAN
from stylegan_invert.networks.encoder import Encoder
from stylegan_invert.studies import encoder as study
from stylegan_invert.training.encoder import EncoderTrainer, train_encoder
from stylegan_invert.training.encoder_options import EncoderOptions

from conftest import make_network

QUICK = dict(kimg=0.064, batch=8, width=4, loss="mse=1")


def real_set(tmp_path, resolution=16, count=12):
    folder = tmp_path / "real"
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i:02d}.png").write_bytes(jpeg(i))
    data = PictureSet(folder, resolution, 3)
    data.check()
    return data


def trained(net, outdir, data=None, **options):
    file = train_encoder(adapt(net.G), EncoderOptions(**{**QUICK, **options}), outdir, data, tick_kimg=0.032)
    return file


@pytest.mark.parametrize("space", ["z", "w", "w+", "v+"])
def test_coordinates_are_a_code_standardised_and_back(space):
    generator = adapt(make_network().G)
    code = generator.convert(Code("z", {"z": torch.randn([5, 8])}), space)
    encoding = Encoding(Encoder(3, 16, entries(generator, space), width=4), space, generator)
    coordinates = encoding.coordinates(code)
    (x,) = code.tensors.values()
    if space == "z":
        expected = x  # mean 0 and deviation 1 already
    elif space == "v+":
        expected = x
    else:
        w = generator.statistics()
        expected = (x - w.mean) / (w.std / 8**0.5)
    assert torch.allclose(coordinates, expected.flatten(1), atol=1e-5)
    (back,) = encoding.code(coordinates).tensors.values()
    assert torch.allclose(back, x, atol=1e-5)


def test_coordinates_of_classes_are_each_from_their_own_mean():
    generator = adapt(make_network(classes=3).G)
    c = torch.eye(3)[[0, 2, 1]]
    code = generator.convert(Code("z", {"z": torch.randn([3, 8])}, c), "w")
    encoding = Encoding(Encoder(3, 16, 8, 3, 4), "w", generator)
    expected = torch.cat(
        [(code.tensors["w"][i] - generator.statistics(c[i : i + 1]).mean)[None] for i in range(3)]
    ) / torch.tensor([[generator.statistics(c[i : i + 1]).std / 8**0.5] for i in range(3)])
    assert torch.allclose(encoding.coordinates(code), expected, atol=1e-4)


def test_an_encoder_learns_codes(tmp_path):
    """After a short training its codes of new pictures are nearer to the true ones than the mean code is."""
    net = make_network()
    generator = adapt(net.G)
    trained(net, tmp_path, space="w", kimg=0.96, lr=0.003, width=8, loss="none", batch=16)
    encoding, about = read_encoder(tmp_path, generator)
    assert about.space == "w" and about.images == 960
    z = torch.randn([64, 8], generator=torch.Generator().manual_seed(9))
    code = generator.convert(Code("z", {"z": z}), "w")
    found = encoding.encode(generator.render(code).clamp(-1, 1))
    error = (found.tensors["w"] - code.tensors["w"]).square().mean()
    assert error < 0.7 * (code.tensors["w"] - generator.statistics().mean).square().mean()


def test_the_generator_is_left_as_it_is(tmp_path):
    net = make_network()
    before = adapt(net.G).sha256()
    trained(net, tmp_path, space="w+")
    assert adapt(net.G).sha256() == before


@pytest.mark.parametrize("options", [{}, {"iterative": True, "passes": 2}, {"in_domain_weight": 1.0, "latent": "mse"}])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, options):
    net, data = make_network(), real_set(tmp_path)
    whole = trained(net, tmp_path / "whole", data, **options)
    generator = adapt(net.G)
    settings = EncoderOptions(**{**QUICK, **options})

    class Stop(Exception):
        pass

    def stop(report):
        raise Stop

    with pytest.raises(Stop):
        train_encoder(generator, settings, tmp_path / "parts", data, tick_kimg=0.032, snapshot_ticks=1, callback=stop)
    again = train_encoder(generator, settings, tmp_path / "parts", data, resume=True, tick_kimg=0.032)
    assert again.read_bytes() == whole.read_bytes()


def test_real_pictures_take_turns(tmp_path):
    data = real_set(tmp_path)
    for alternate, expected in (("batch", [False, True] * 4), ("epoch", [False] * 3 + [True] * 3 + [False] * 2)):
        trainer = EncoderTrainer(
            EncoderOptions(**{**QUICK, "batch": 4, "alternate": alternate}), adapt(make_network().G), data
        )
        kinds = []
        for _ in range(8):
            kinds.append(trainer._is_real())
            trainer.step()
        assert kinds == expected
        assert trainer.real_nimg == 4 * sum(expected)


def test_mixed_styles_are_those_of_two_codes():
    generator = adapt(make_network().G)
    trainer = EncoderTrainer(EncoderOptions(**QUICK, mixing=1.0), generator)
    _, code = trainer.draw(6)
    for w in code.tensors["w"]:
        different = (w[1:] != w[:-1]).any(dim=1).sum()
        assert different == 1  # one place where the second code begins


@pytest.mark.parametrize(
    "network",
    [
        lambda: make_network(classes=3).G,
        lambda: BigGAN(12, 3, 4, (8, 8, 8), (), bottom_width=4).eval(),
    ],
)
def test_networks_with_classes(network, tmp_path):
    G = network().requires_grad_(False)
    generator = adapt(G)
    space = "w+" if "w+" in generator.spaces else "z"
    options = EncoderOptions(**{**QUICK, "space": space, "kimg": 0.016})
    file = train_encoder(generator, options, tmp_path, tick_kimg=0.016)
    result = si.project(G, np.zeros(generator.output_shape, np.uint8), "encoder", encoder=file, class_idx=2)
    assert result.code.space == space and result.record["options"]["init"] == "encoder"


def test_the_study_compares_ways_on_all_sets(tmp_path):
    """Every way has a row in every set, evaluations are counted, and a line goes from the start to the end."""
    net, data = make_network(32), real_set(tmp_path, 32)
    file = trained(net, tmp_path / "run", space="z", kimg=0.016)
    ways = study.read_ways("random,encoder,nearest,encoder:3:fast,random:2:clipped")
    results = study.run(
        net, tmp_path / "out", data, encoders={"encoder": file}, ways=ways, generated=2, real=8,
        others={"smaller": make_network()}, loss="mse=1",
    )  # fmt: skip
    assert results["pictures"] == {"generated": 2, "real": 8, "smaller": 2}
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    for name, rows in results["sets"].items():
        assert list(rows) == [way.name for way in ways]
        assert rows["a random code"]["evaluations"] == 0
        assert rows["a random code, then 2 steps of Adam with stochastic clipping"]["evaluations"] == 2
        assert rows["encoder, then 3 steps of the fast search"]["evaluations"] > 2
        line = results["curves"][name]["encoder, then 3 steps of the fast search"]
        assert len(line["seconds"]) >= 2 and line["seconds"] == sorted(line["seconds"])
        assert line["psnr"][0] == pytest.approx(rows["encoder"]["psnr"], abs=0.1)
        assert line["lpips"][0] != line["lpips"][-1]
        assert ("frechet" in rows["encoder"]) == (name == "real")
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {
        "encoder.png", "sheet-generated.png", "sheet-real.png", "sheet-smaller.png"
    }  # fmt: skip
    with pytest.raises(si.StyleganInvertError, match="no start 'other'; expected one of encoder"):
        study.run(net, tmp_path / "x", generated=2, encoders={"encoder": file}, ways=study.read_ways("other:2"))
    for text in ("encoder:x", "encoder:1:sgd", "encoder:1:adam:2", "a,a", ":3"):
        with pytest.raises(ValueError, match="expected START|alike"):
            study.read_ways(text)


def test_a_method_and_a_start(tmp_path):
    """One pass is the encoder's code itself, several targets share it, and other searches begin there."""
    net = make_network()
    file = trained(net, tmp_path)
    pictures = [np.random.RandomState(i).randint(0, 256, [3, 16, 16]).astype(np.uint8) for i in range(3)]
    results = si.project(net, pictures, "encoder", encoder=file)
    encoding, _ = read_encoder(file, adapt(net.G))
    expected = encoding.encode(as_images(np.stack(pictures)))
    for i, result in enumerate(results):
        assert torch.equal(result.code.tensors["w"], expected.tensors["w"][i : i + 1])
    begun = si.project(net, pictures[0], "w+", init="encoder", encoder=file, steps=1, initial_learning_rate=1e-9)
    assert torch.allclose(begun.code.tensors["w"], expected.tensors["w"][:1], atol=1e-6)


def test_a_file_rounds_weights_and_nothing_else(tmp_path):
    """Kernels and matrices are rounded to float16 in the file; vectors keep numbers that float16 has not."""
    generator = adapt(make_network().G)
    encoder = Encoder(3, 16, entries(generator, "w+"), width=4)
    encoder.bn1.running_var.fill_(1e-9)
    write_encoder(tmp_path / "e", encoder, About("w+", generator.sha256(), 0, 1, {}))
    read = read_encoder(tmp_path / "e", generator)[0].encoder.state_dict()
    for name, value in encoder.state_dict().items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value.half().float() if value.ndim > 1 else value)


@pytest.mark.parametrize("name", SHIPPED)
def test_encoders_that_come_with_the_package(name):
    """A network's own encoder is found by the network's hash and by its short name."""
    net = si.load(name)
    generator = adapt(net.G)
    assert shipped_for(generator) == name
    picture = np.full(generator.output_shape, 127, np.uint8)
    found = si.project(net, picture, "encoder").code
    (x,) = found.tensors.values()
    (named,) = si.project(net, picture, "encoder", encoder=name).code.tensors.values()
    assert torch.equal(x, named)
    assert pretrained.path(SHIPPED[name][0]).stat().st_size < 8e6


def test_the_usual_width_grows_with_the_picture():
    """16 channels for small pictures, 64 for large ones and where the weights of a ResNet-18 are the beginning."""
    import stylegan_invert.cli.train_encoder as command

    chosen = {field.name: None for field in dataclasses.fields(EncoderOptions)}
    chosen |= {"iterative": False, "pictures": None, "data": None, "mirror": False, "weights": None}
    widths = []
    for resolution, weights in ((64, None), (128, None), (64, "resnet.pth")):
        generator = types.SimpleNamespace(spaces=("z",), output_shape=(3, resolution, resolution))
        widths.append(command.new_run(generator, {**chosen, "weights": weights}, True)[1].width)
    assert widths == [16, 64, 64]


def test_what_does_not_fit_is_refused(tmp_path):
    net, picture = make_network(), np.zeros([3, 16, 16], np.uint8)
    file = trained(net, tmp_path)
    other = make_network()
    other.G.mapping.fc0.weight.add_(0.1)
    with pytest.raises(EncoderFileError, match="another network"):
        si.project(other, picture, "encoder", encoder=file)
    assert len(si.project(other, picture, "encoder", encoder=file, assume_encoder=True).code) == 1
    with pytest.raises(ValueError, match="none was given"):
        si.project(net, picture, "encoder")
    with pytest.raises(ValueError, match="neither the method nor the start"):
        si.project(net, picture, "w", steps=1, encoder=file)
    with pytest.raises(ValueError, match="trained for one pass"):
        si.project(net, picture, "encoder", encoder=file, refine=2)
    with pytest.raises(ValueError, match="--space z"):
        si.project(net, picture, "z", steps=1, init="encoder", encoder=file)
    with pytest.raises(ValueError, match="use the method w\\+"):
        si.project(net, picture, "w", steps=1, init="encoder", encoder=file)
    with pytest.raises(TrainingError, match="works? in|has z"):
        EncoderTrainer(EncoderOptions(**QUICK, space="w"), adapt(si.load("faces64").G))
    with pytest.raises(TrainingError, match="a round has one picture"):
        EncoderTrainer(EncoderOptions(**{**QUICK, "batch": 1}), adapt(net.G))


@pytest.mark.parametrize(
    "change",
    [
        lambda h, t: h.update(format="x"),
        lambda h, t: h["encoder"].update(width=1e400),
        lambda h, t: h["encoder"].update(width=5),
        lambda h, t: h["encoder"].update(outputs=10**9),
        lambda h, t: h["about"].update(space="q"),
        lambda h, t: h["about"].update(images=-1),
        lambda h, t: h.pop("about"),
        lambda h, t: t.pop("conv1.weight"),
        lambda h, t: t.update({"conv1.weight": t["conv1.weight"] * torch.nan}),
        lambda h, t: t.update({"conv1.weight": t["conv1.weight"].double()}),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(tmp_path, change):
    generator = adapt(make_network().G)
    encoder = Encoder(3, 16, entries(generator, "w+"), width=4)
    file = tmp_path / "e.safetensors"
    write_encoder(file, encoder, About("w+", generator.sha256(), 0, 1, {}))
    read_encoder(file, generator)
    with safetensors.safe_open(file, "pt") as f:
        header, tensors = json.loads(f.metadata()[HEADER]), {k: f.get_tensor(k) for k in f.keys()}
    change(header, tensors)
    safetensors.torch.save_file(tensors, file, {HEADER: json.dumps(header)})
    with pytest.raises(EncoderFileError, match="e.safetensors"):
        read_encoder(file, generator)
    for header in ({}, {HEADER: "[" * 100_000}, {HEADER: "{"}):
        safetensors.torch.save_file(tensors, file, header)
        with pytest.raises(EncoderFileError, match="e.safetensors"):
            read_encoder(file, generator)


def test_an_encoder_takes_no_memory_before_its_tensors_are_compared(tmp_path, monkeypatch):
    generator = adapt(make_network().G)
    encoder = Encoder(3, 16, entries(generator, "w+"), width=4)
    encoder.settings["width"] = 256  # the modules of this width take 1 GB
    write_encoder(tmp_path / "e.safetensors", encoder, About("w+", generator.sha256(), 0, 1, {}))
    made = []
    monkeypatch.setattr(encoder_file, "Encoder", lambda **settings: made.append(Encoder(**settings)) or made[0])
    with pytest.raises(EncoderFileError, match="not those of the encoder that its header describes"):
        read_encoder(tmp_path / "e.safetensors", generator)
    assert {value.device.type for value in made[0].state_dict().values()} == {"meta"}


def test_weights_of_something_else_are_refused(tmp_path):
    trainer = EncoderTrainer(EncoderOptions(**QUICK), adapt(make_network().G))
    shared = torch.zeros([10**6])  # a thousand views of it would take 4 GB
    nan = {
        name: value * torch.nan if value.is_floating_point() else value
        for name, value in trainer.encoder.state_dict().items()
    }
    for content, reason in (
        ({"epoch": 1}, "is missing or of another size"),
        ({f"layer{i}": shared for i in range(1000)}, "is missing or of another size"),
        (nan, "has numbers that are nan"),
        ([1], "is missing"),
    ):
        torch.save(content, tmp_path / "r.pt")
        with pytest.raises(TrainingError, match=f"r.pt: .*{reason}"):
            trainer.start_from(*resnet(str(tmp_path / "r.pt")))
    (tmp_path / "r.pt").write_bytes(b"<html>")
    with pytest.raises(TrainingError, match="r.pt: .*ResNet-18"):
        resnet(str(tmp_path / "r.pt"))


def test_the_commands(tiny_file, tmp_path):
    write_png(tmp_path / "t.png", np.zeros([3, 8, 8], np.uint8))
    train = [
        "train-encoder",
        str(tiny_file),
        "--kimg",
        "0.016",
        "--batch",
        "8",
        "--width",
        "4",
        "--tick",
        "0.008",
        "--loss",
        "mse",
    ]
    run = CliRunner().invoke(cli, [*train, "-o", str(tmp_path / "run"), "--quiet"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        cli, ["train-encoder", str(tiny_file), "--resume", str(tmp_path / "run"), "--kimg", "0.024", "--quiet"]
    )
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        cli,
        ["project", "-n", str(tiny_file), "-t", str(tmp_path / "t.png"), "-o", str(tmp_path / "out"), "--method", "encoder",
         "--encoder", str(tmp_path / "run"), "--quiet"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "out" / "result.json").read_text())["method"] == "encoder"


def test_a_resnet_can_be_the_beginning(tmp_path):
    """The stages come from the file; the first convolution is of another size here, and the head is new."""
    torch.manual_seed(0)
    state = {
        k: torch.randn_like(v) if v.is_floating_point() else v
        for k, v in Encoder(3, 224, 5, width=64).state_dict().items()
    }
    state = {k: v for k, v in state.items() if not k.startswith("head")}
    torch.save(state, tmp_path / "resnet.pth")

    trainer = EncoderTrainer(EncoderOptions(**{**QUICK, "width": 64}), adapt(make_network().G))
    trainer.start_from(*resnet(str(tmp_path / "resnet.pth")))
    assert torch.equal(trainer.encoder.layer3[1].conv2.weight, state["layer3.1.conv2.weight"])
    with pytest.raises(TrainingError, match="--width 64"):
        EncoderTrainer(EncoderOptions(**QUICK), adapt(make_network().G)).start_from(state, "x")


def test_a_uniform_prior_is_kept(tmp_path):
    generator = with_prior(adapt(si.load("faces64").G), "uniform")
    encoding = Encoding(Encoder(3, 64, entries(generator, "z"), width=4).eval(), "z", generator)
    with torch.no_grad():
        encoding.encoder.head[-1].bias.fill_(5.0)
    assert float(encoding.encode(torch.zeros([1, *generator.output_shape])).tensors["z"].max()) == 1
