"""The studies of Pividori et al. on tiny networks with and without classes; classes switched on frames; what they rest on."""
# Takes at most 15 CPU seconds.

import itertools
import json

import numpy as np
import PIL.Image
import pytest
import test_biggan
import torch
from test_segmentation import displaced, network

import stylegan_invert as si
from stylegan_invert.analysis import segmentation as seg
from stylegan_invert.analysis.distribution import logits
from stylegan_invert.analysis.paths import deeper
from stylegan_invert.editing import class_switch
from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.losses import SqueezeLPIPS
from stylegan_invert.losses.features import squeezenet_features
from stylegan_invert.media.frames import find_frames
from stylegan_invert.media.pictures import read_png, write_png
from stylegan_invert.media.video import write_mp4
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.networks.biggan import BigGAN, BigGANDeep
from stylegan_invert.networks.dcgan import DCGAN, Layer
from stylegan_invert.networks.inception import INCEPTION_LAYERS, InceptionV3
from stylegan_invert.projectors import Projector
from stylegan_invert.projectors.dense import read_behind
from stylegan_invert.studies import base, depth, displacement, features, penalty, segmentation

from conftest import make_network

SHORT = {"steps": 2, "layer_steps": 2, "loss": "mse"}


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(displacement, "REFERENCE", 16)


def file_of(generator):
    return NetworkFile({"G": generator.network, "G_ema": generator.network})


def dcgan(classes=0):
    torch.manual_seed(0)
    layers = [Layer("linear", 5 + classes, 8, 4, True, "none"), Layer("transposed", 8, 8, 4, False),
              Layer("transposed", 8, 3, 4, True, "none")]  # fmt: skip
    return adapt(DCGAN(layers, classes=classes).eval().requires_grad_(False))


def latent(generator, k=1, n=1):
    (shape,) = generator.code_shapes("z").values()
    z = torch.randn([n, *shape], generator=torch.Generator().manual_seed(3))
    c = label(generator.c_dim, k if generator.c_dim else None)
    return Code("z", {"z": z}, None if c is None else c.expand(n, -1))


def folder_of_pictures(folder, count, side=16, labels=None):
    folder.mkdir()
    random = np.random.RandomState(0)
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        write_png(folder / name, random.randint(0, 256, [3, side, side]).astype(np.uint8))
    if labels is not None:
        (folder / "dataset.json").write_text(json.dumps({"labels": [[n, k] for n, k in zip(names, labels)]}))
    return folder


# What later layers read, and earlier codes at later layers


def test_what_is_read_behind_a_layer():
    assert read_behind(dcgan(), "dense", latent(dcgan())) is None
    generator = network()  # two blocks: z has chunks of two entries, of which the first goes into the dense layer
    for layer, expected in [("linear", [2, 3, 4, 5]), ("blocks.0", [4, 5]), ("attention.0", [4, 5])]:
        assert read_behind(generator, layer, latent(generator)).tolist() == expected
    assert read_behind(generator, "blocks.1", latent(generator)) is None
    deep = network(BigGANDeep)
    assert read_behind(deep, "linear", latent(deep)).tolist() == list(range(6))
    style = adapt(make_network().G)
    assert len(read_behind(style, "b8.conv1", latent(style))) == 8


def test_the_later_chunks_of_z_are_freed_by_styles_optimised():
    generator = network()
    target = torch.rand([2, 3, 16, 16], generator=torch.Generator().manual_seed(0)) * 2 - 1
    start = latent(generator, n=2)
    common = dict(first_step="none", layer_steps=10, lambda_delta=0.0, layer_optimizer="lbfgs", loss="mse", class_idx=1)
    held = Projector(generator, "dense", **common).fit(target, start)
    freed = Projector(generator, "dense", styles="optimised", **common, lambda_z=0.0).fit(target, held.code)
    assert torch.equal(held.code.tensors["z"], start.tensors["z"])
    assert torch.equal(freed.code.tensors["z"][:, :2], start.tensors["z"][:, :2])
    assert (freed.code.tensors["z"][:, 2:] != start.tensors["z"][:, 2:]).all()

    def error(code):
        return (generator.render(code) - target).square().mean(dim=[1, 2, 3])

    assert (error(freed.code) < error(held.code)).all()
    # Each row alone gives the same: the chunks of one target are not those of another.
    alone = Projector(generator, "dense", styles="optimised", **common, lambda_z=0.0).fit(target[1:], held.code[1:2])
    assert torch.allclose(alone.code.tensors["z"], freed.code.tensors["z"][1:], atol=1e-3)
    # The penalty of z holds in the second step, too: with a large weight the chunks shrink.
    small = Projector(generator, "dense", styles="optimised", **common, lambda_z=100.0).fit(target, start)
    assert small.code.tensors["z"][:, 2:].norm() < 0.1 * start.tensors["z"][:, 2:].norm()
    with pytest.raises(si.ProjectionError, match="read nothing but its output; leave it 'held'"):
        Projector(dcgan(), "dense", styles="optimised", loss="mse", steps=1, layer_steps=1).fit(target[:1])


def test_a_code_at_a_layer_is_the_same_picture_at_a_later_one():
    generator = network()
    code = displaced(generator, n=2)
    for layer in ("attention.0", "blocks.1"):
        later = deeper(generator, code, layer)
        assert later.space == f"f:{layer}"
        assert torch.allclose(generator.render(later), generator.render(code), atol=1e-6)
    assert torch.equal(generator.render(code), generator.render(code))  # no hook stays


def test_pairs_are_of_one_class():
    assert displacement.pairs([None, None, None]) == [(0, 1), (1, 2), (2, 0)]
    assert displacement.pairs([1, 0, 1, 2, 0, 1]) == [(0, 2), (2, 5), (5, 0), (1, 4), (4, 1)]


def test_logits_take_the_class_of_each_picture():
    pictures = np.random.RandomState(0).randint(0, 256, [3, 3, 16, 16]).astype(np.uint8)
    D = make_network(classes=2).D
    c = torch.eye(2)[[0, 1, 0]]
    with torch.no_grad():
        expected = D(torch.from_numpy(pictures) / 127.5 - 1, c).flatten()
    alone = [logits(D, pictures[i : i + 1], c[i : i + 1]) for i in range(3)]
    assert torch.equal(torch.cat(alone), logits(D, pictures, c))
    assert expected.shape == logits(D, pictures, c).shape


# The studies


def test_depth_on_a_network_with_classes(tmp_path):
    net = file_of(network())
    pictures = folder_of_pictures(tmp_path / "real", 3, labels=[2, 0, 2])
    data = base.picture_set(net, pictures, use_labels=True)
    settings = dict(kinds=["free", "regularised", "inputs"], generated=4, noise=1, **SHORT)
    results = depth.run(net, tmp_path / "out", data, **settings)
    assert results["layers"] == ["linear", "attention.0", "output"] == depth.cuts(network())
    assert results["classes"] == {"generated": [0, 0, 1, 1], "real": [2, 0, 2], "noise": [0]}
    for rows in results["sets"].values():
        # Behind the last layer nothing is read; everywhere else the error can only fall.
        assert [name for name in rows if name.endswith("inputs")] == ["linear-inputs", "attention.0-inputs"]
        left = [1.0, *(rows[f"{layer}-free"]["left"] for layer in results["layers"])]
        assert all(later <= before for before, later in itertools.pairwise(left)) and left[-1] < 0.9
        assert rows["linear-free"]["numbers"] == 8 * 4 * 4
    text = (tmp_path / "out" / "table.md").read_text()
    assert text == depth.table(results) and "| attention.0 | 1,024 | free, with what later layers read |" in text
    assert (tmp_path / "out" / "depth.png").exists()
    with pytest.raises(si.StyleganInvertError, match="there is no kind 'all'"):
        depth.run(net, tmp_path / "no", data, kinds=["all"], **SHORT)


def test_labels_that_do_not_fit_the_network_are_refused(tmp_path):
    net = file_of(network())
    pictures = folder_of_pictures(tmp_path / "real", 2, labels=[1, 1])
    with pytest.raises(si.StyleganInvertError, match="labels have 2 classes, and this network has 3.*--class"):
        penalty.run(net, tmp_path / "out", base.picture_set(net, pictures, use_labels=True), **SHORT)
    with pytest.raises(ValueError, match="class 7 was given"):
        penalty.run(net, tmp_path / "out", class_idx=7, **SHORT)


def test_penalty(tmp_path, monkeypatch):
    net = file_of(dcgan())
    data = base.picture_set(net, folder_of_pictures(tmp_path / "real", 8))
    settings = dict(shares=[0.2], generated=2, steps=4, layer_steps=6, loss="mse")
    results = penalty.run(net, tmp_path / "out", data, **settings)
    rows = results["sets"]["real"]
    assert list(rows) == ["z", "share-0.2", "share-0.7", "free"] and results["shares"] == [0.2, 0.7]
    # A larger share of the slopes means a smaller weight, and a displacement that comes nearer.
    assert rows["share-0.2"]["weight"] > rows["share-0.7"]["weight"] > rows["free"]["weight"] == 0
    assert 1 == rows["z"]["left"] > rows["share-0.2"]["left"] > rows["share-0.7"]["left"] > rows["free"]["left"]
    assert results["judged"]["0.7"] == penalty.judged(rows, "share-0.7") and "kid" in results["judged"]["0.7"]
    assert "Share 0.7, real pictures, beside a free displacement: leaves at most half of z's distance: no" in (
        (tmp_path / "out" / "table.md").read_text()
    )
    monkeypatch.setattr(base, "fit", lambda *_, **__: pytest.fail("what was found is searched again"))
    again = penalty.run(net, tmp_path / "out", data, **settings)
    assert json.dumps(again) == json.dumps(
        results
    )  # as text, because nan stands for LPIPS of pictures that are too small
    good = {"left": 0.5, "midpoints": {"kid": 1.0, "logit": -1.0}}
    assert penalty.judged({"x": good, "free": {"midpoints": {"kid": 1.1, "logit": 0.0}}}, "x") == {
        "half": True, "kid": True, "logit": False
    }  # fmt: skip


def test_features_of_each_layer(tmp_path):
    images = torch.rand([2, 3, 20, 20], generator=torch.Generator().manual_seed(0)) * 2 - 1
    lpips = SqueezeLPIPS()
    whole = squeezenet_features()
    x = torch.nn.functional.interpolate((images + 1) / 2, [128, 128], mode="bilinear", align_corners=False)
    taps = lpips.backbone((x - whole.mean) / whole.std)
    for tap, number in zip(taps, lpips.backbone.taps):
        assert torch.allclose(squeezenet_features(layer=number).features(images), tap / 40, atol=1e-5)
    torch.manual_seed(0)
    inception, outputs = InceptionV3().eval(), {}
    for name in INCEPTION_LAYERS:
        getattr(inception, name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    with torch.no_grad():
        small = torch.rand([1, 3, 80, 80])
        assert torch.equal(inception(small), outputs["Mixed_7a"])
        inception.last = "Mixed_5b"
        assert torch.equal(inception(small), outputs["Mixed_5b"]) and outputs["Mixed_5b"].shape[1] == 256

    net = file_of(dcgan())
    results = features.run(net, tmp_path / "out", generated=3, steps=2)
    rows = results["sets"]["generated"]
    assert list(rows) == ["mse", *(f"features.{n}" for n in lpips.backbone.taps)]
    # The units make two pictures as far apart by the features as by the squared error.
    drawn = displacement.rendered_set(adapt(net.G), displacement.latents(adapt(net.G), 3, None)).pixels
    images = torch.from_numpy(drawn) / 127.5 - 1
    distance = squeezenet_features(layer=7)
    distance.unit *= results["units"]["features.7"]
    by_pixels = 0.25 * (images - images.roll(1, 0)).square().mean()
    assert float(distance.between(images, images.roll(1, 0)).mean()) == pytest.approx(float(by_pixels), rel=1e-3)
    assert 0 <= rows["mse"]["latents_found"] <= 1 and 0 <= rows["mse"]["angle"][1] <= 180
    assert "| MSE and squeezenet1_1 features.12 |" in (tmp_path / "out" / "table.md").read_text()


# Segmentation


def test_masks_and_pictures_of_the_segmentation_study(tmp_path):
    picture = np.zeros([1, 6, 6], np.uint8)
    picture[0, 1:5, 1:5] = 200
    picture[0, 2:4, 2:4], picture[0, 0, 5] = 0, 25
    expected = np.zeros([6, 6], bool)
    expected[1:5, 1:5] = True  # the hole belongs to the foreground, and what is nearly black does not
    assert np.array_equal(segmentation.on_black(picture), expected)
    moved = segmentation.shifted(picture[None])[0]
    assert np.array_equal(moved[:, :, 1:], picture[:, :, :-1]) and np.array_equal(moved[:, :, 0], picture[:, :, 0])
    halves = np.zeros([3, 8, 8], np.uint8)
    halves[:, :, 4:] = 255
    (labels,) = segmentation.by_colour(halves, [2], (4, 4))
    assert np.array_equal(labels, np.repeat([[0, 0, 1, 1]], 4, axis=0))


def test_the_study_of_segments(tmp_path):
    net = file_of(network())
    pictures, masks = folder_of_pictures(tmp_path / "real", 4), tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros([1, 16, 16], np.uint8)
    mask[:, 4:12, 4:12] = 255
    for name in ("0", "2", "3"):
        write_png(
            masks / f"{name}.png", mask if name != "2" else mask * 0
        )  # picture 1 has none, and that of 2 no boundary
    data = base.picture_set(net, pictures)
    settings = dict(masks=str(masks), clusters=[2, 5], class_idx=1, **SHORT)
    results = segmentation.run(net, tmp_path / "out", data, **settings)
    assert results["pictures"] == {"real": 2, "shifted": 2} and results["size"] == [8, 8]
    # The values of the network's attention again, from the kept codes.
    generator = adapt(net.G)
    values = []
    for i in range(2):
        codes = [
            si.io.codes.read_codes(tmp_path / "out" / "codes-attention" / f"{of}-{i:04d}-dense.npz")
            for of in ("real", "shifted")
        ]
        before, after = (seg.segment(generator, code, [5])[0] for code in codes)
        moved = seg.stability(seg.at_size(before, 16, 16), seg.at_size(after, 16, 16), 0, 1)
        values.append((seg.boundary_agreement(before, mask[0] > 0)["f"], moved))
    row = results["methods"]["attention"]["5"]
    assert (row["f"], row["stability"]) == pytest.approx(np.mean(values, axis=0))
    assert set(results["methods"]["colour"]["5"]["beaten"]) == {"f", "stability"}
    other = segmentation.untrained(net, generator)
    assert not torch.equal(other.network.linear.weight, net.G.linear.weight) and isinstance(other.network, BigGAN)
    assert (tmp_path / "out" / "segments.png").exists()
    text = (tmp_path / "out" / "table.md").read_text()
    assert text.count("The network's attention is ahead of both others: boundary agreement:") == 2
    with pytest.raises(si.StyleganInvertError, match="none of its 4 pictures has a mask in"):
        segmentation.run(net, tmp_path / "no", data, **{**settings, "masks": str(tmp_path)})
    with pytest.raises(si.StyleganInvertError, match="no self-attention"):
        segmentation.run(file_of(dcgan()), tmp_path / "no", data, masks="black", **SHORT)


# Classes switched on frames


def test_a_class_is_switched_and_the_displacement_stays():
    generator = network()
    code = displaced(generator)
    other = class_switch.switched(generator, code, 2)
    assert torch.allclose(other.tensors["h"], code.tensors["h"], atol=1e-6) and other.c.tolist() == [[0, 0, 1]]
    assert not torch.allclose(generator.render(other), generator.render(code), atol=1e-3)
    for one, space in ((network(BigGANDeep), "f:linear"), (dcgan(3), "f:dense")):
        z = latent(one, 0)
        undisplaced = one.convert(z, space)
        delta = torch.randn(undisplaced.tensors["h"].shape, generator=torch.Generator().manual_seed(0))
        moved = Code(space, {**undisplaced.tensors, "h": undisplaced.tensors["h"] + delta}, z.c)
        other = class_switch.switched(one, moved, 1)
        expected = one.convert(Code("z", z.tensors, label(3, 1)), space).tensors["h"] + delta
        assert torch.allclose(other.tensors["h"], expected, atol=1e-5)
        assert not torch.allclose(other.tensors["h"], moved.tensors["h"], atol=1e-3)
        assert torch.equal(class_switch.switched(one, z, 2).c, label(3, 2))
    with pytest.raises(ValueError, match="class 3 was given"):
        class_switch.switched(generator, code, 3)
    with pytest.raises(ValueError, match="no class that could be switched"):
        style = adapt(make_network(classes=2).G)
        class_switch.switched(style, style.convert(latent(style), "w+"), 1)


def test_flicker():
    frames = [np.full([3, 20, 20], value, np.uint8) for value in (0, 51, 255)]
    got = class_switch.frame_distance(frames, SqueezeLPIPS())
    assert got["pixels"] == pytest.approx((0.2 + 0.8) / 2) and got["lpips"] > 0
    assert set(class_switch.frame_distance([f[:, :8, :8] for f in frames], SqueezeLPIPS())) == {"pixels"}
    base = {"pixels": 0.1, "lpips": 0.2}
    assert class_switch.flicker(base, {"pixels": 0.12, "lpips": 0.1}) == {
        "pixels": 0.12, "lpips": 0.1, "ratio": {"pixels": pytest.approx(1.2), "lpips": 0.5}, "steady": True
    }  # fmt: skip
    assert not class_switch.flicker(base, {"pixels": 0.1, "lpips": 0.27})["steady"]
    still = {"pixels": 0.0}
    assert class_switch.flicker(still, still)["steady"] and not class_switch.flicker(still, {"pixels": 0.1})["steady"]


def moving(folder, count=3, side=16):
    """Frames in which a bright square moves over a dark picture, as arrays and as a folder of files."""
    folder.mkdir()
    frames = [np.full([3, side, side], 40, np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[:, 4:10, 2 + 2 * i : 8 + 2 * i] = 220
        write_png(folder / f"{i}.png", frame)
    return frames


def test_frames_of_videos_and_animations(tmp_path):
    frames = moving(tmp_path / "frames", side=64)
    pictures = [PIL.Image.fromarray(frame.transpose(1, 2, 0)) for frame in frames]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    write_mp4(tmp_path / "a.mp4", iter(frames))
    for i, (name, tolerance) in enumerate([("frames", 0), ("a.gif", 4), ("a.mp4", 40)]):
        (tmp_path / f"to{i}").mkdir()
        found = find_frames([str(tmp_path / name)], tmp_path / f"to{i}")
        assert len(found) == 3
        for path, frame in zip(found, frames):
            assert np.abs(read_png(path)[:3].astype(int) - frame).max() <= tolerance
    assert find_frames([str(tmp_path / "frames" / "1.png")], tmp_path) == [tmp_path / "frames" / "1.png"]
    (tmp_path / "list.mp4").write_text(
        f"ffconcat version 1.0\nfile {tmp_path / 'a.mp4'}\n"
    )  # a list that is called a video
    (tmp_path / "cut.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:-150])
    for name, message in [("list.mp4", "ffmpeg cannot read this video"), ("cut.gif", "damaged|cut short")]:
        (tmp_path / f"to-{name}").mkdir()
        with pytest.raises(si.ImageFileError, match=message):
            find_frames([str(tmp_path / name)], tmp_path / f"to-{name}")


def test_the_command_switches_the_class_of_frames(cli, tmp_path):
    torch.save(test_biggan.plain(), tmp_path / "G.pth")
    moving(tmp_path / "frames")
    args = ["switch-class", tmp_path / "frames", "-n", tmp_path / "G.pth", "--steps", 2, "--layer-steps", 3, "-q"]
    assert cli(*args, "--class", 1, "--to", 0, "--to", 2, "-o", tmp_path / "out") == (0, "", "")
    out = tmp_path / "out"
    names = ["class-0.mp4", "class-2.mp4", "codes.npz", "compare.mp4", "flicker.json", "sheet.png"]
    assert sorted(p.name for p in out.iterdir()) == names
    record = json.loads((out / "flicker.json").read_text())
    assert record["frames"] == 3 and record["class"] == 1 and set(record["switched"]) == {"0", "2"}
    # The switched pictures again, from the codes, and their distances.
    generator = adapt(si.load(tmp_path / "G.pth").G)
    codes = si.io.codes.read_codes(out / "codes.npz")
    again = [base.rendered(generator, [class_switch.switched(generator, code, 2)])[0] for code in codes]
    assert np.array_equal(read_png(out / "sheet.png")[:, -128::8, :128:8], again[0])
    row = record["switched"]["2"]
    assert row["pixels"] == pytest.approx(class_switch.frame_distance(again, SqueezeLPIPS())["pixels"])
    assert row["ratio"]["pixels"] == pytest.approx(row["pixels"] / record["reconstruction"]["pixels"])
    assert cli(*args, "--class", "search", "--to", 0, "--method", "fast-z", "--steps", 1, "-o", tmp_path / "b")[0] != 0
    for more, message in [
        (["--class", 1, "--to", 9], "class 9 was given"),
        (["--class", "relaxed", "--to", 0], "expected a number, a name or search"),
        (["--class", 1, "--to", 0, tmp_path / "frames" / "1.png"], None),
    ]:
        code, _, err = cli(*args, *more, "-o", tmp_path / "no")
        assert message is None or (code not in (0, None) and message in err and "Traceback" not in err), err
    one = ["switch-class", tmp_path / "frames" / "1.png", "--class", 1, "--to", 0, "-q", "-o", tmp_path / "no2"]
    assert "a sequence has at least two" in cli(*one, "-n", tmp_path / "G.pth")[2]
    assert "networks from z with classes" in cli(*one, "-n", "faces64")[2]
