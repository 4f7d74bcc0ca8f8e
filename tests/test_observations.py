"""What is observed of outputs: masks, smaller sizes, grey, JPEG, noise, blur; restoration with them, in stages and with an anchor."""
# Takes at most 8 CPU seconds.

import io

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt
from stylegan_invert.losses import MSE, SqueezeLPIPS
from stylegan_invert.losses import parse as parse_loss
from stylegan_invert.media.picture_medium import beside
from stylegan_invert.media.pictures import as_images, nearest_pixels, read_png, write_png
from stylegan_invert.projectors import Projection, Projector, samples
from stylegan_invert.projectors.anchor import Anchor
from stylegan_invert.projectors.observations import parse
from stylegan_invert.projectors.resampling import KERNELS
from stylegan_invert.studies import base, restoration

from conftest import make_network

PILLOW = {
    "area": PIL.Image.BOX,
    "bilinear": PIL.Image.BILINEAR,
    "bicubic": PIL.Image.BICUBIC,
    "lanczos": PIL.Image.LANCZOS,
}


def picture(side=48, seed=0):
    """A picture (3, side, side) uint8 with smooth parts and edges, as photographs have."""
    x = ndimage.gaussian_filter(np.random.RandomState(seed).rand(3, side, side), (0, 4, 4))
    x = (x - x.min()) / (x.max() - x.min())
    x[:, side // 3 : side // 2, side // 4 :] *= 0.3
    return (x * 255).astype(np.uint8)


def observed(text, pixels):
    """A picture (C, H, W) uint8 after an observation, on the scale from 0 to 255, without rounding."""
    one = parse(text)
    shape = one.shape(pixels.shape)
    result = one(as_images(pixels)[None])[0]
    assert tuple(result.shape) == shape
    return ((result + 1) * 127.5).numpy()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 6])
def test_downsampling_is_pillows(kernel, factor):
    pixels = picture()
    size = (48 // factor,) * 2
    expected = [np.asarray(PIL.Image.fromarray(x.astype(np.float32)).resize(size, PILLOW[kernel])) for x in pixels]
    assert np.abs(observed(f"downsample:{factor}:{kernel}", pixels) - np.stack(expected)).max() < 1e-3


def test_blur_is_a_gaussian_filter_with_the_weights_inside_the_picture():
    pixels = picture()
    options = {"sigma": (0, 2.5, 2.5), "mode": "constant", "truncate": 4}
    expected = ndimage.gaussian_filter(pixels.astype(float), **options)
    expected /= ndimage.gaussian_filter(np.ones(pixels.shape), **options)
    assert np.abs(observed("blur:2.5", pixels) - expected).max() < 1e-2


def test_grey_is_pillows():
    pixels = picture()
    expected = np.asarray(PIL.Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"), dtype=float)
    assert np.abs(observed("grey", pixels)[0] - expected).max() <= 0.51


@pytest.mark.parametrize("quality, channels, side", [(10, 3, 48), (75, 3, 41), (40, 1, 41), (95, 3, 48)])
def test_jpeg_is_what_pillows_encoder_and_decoder_give(quality, channels, side):
    """On average within one grey level, and 95 of 100 values within 4: rounding differs at a few coefficients."""
    pixels = picture(side)[:channels]
    stored = io.BytesIO()
    source = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    PIL.Image.fromarray(source).save(stored, "JPEG", quality=quality)
    expected = np.asarray(PIL.Image.open(stored), dtype=float)
    expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
    difference = np.abs(observed(f"jpeg:{quality}", pixels) - expected)
    assert difference.mean() < 1 and np.quantile(difference, 0.95) <= 4
    assert np.abs(pixels - expected).mean() > 2 * difference.mean()  # the file itself loses more


@pytest.mark.parametrize(
    "text", ["downsample:4", "grey", "jpeg:30", "blur:1", "noise:0.1", "grey,blur:1,downsample:2,jpeg:60"]
)
def test_observations_work_row_by_row_and_have_gradients(text):
    one = parse(text)
    one.shape((3, 16, 16))
    x = (as_images(np.stack([picture(16), picture(16, 1)])) * 0.9).requires_grad_(True)
    result = one(x)
    assert torch.allclose(result[1:], one(x[1:]), atol=1e-6)
    (gradient,) = torch.autograd.grad(result[0].square().sum(), x)
    assert gradient[0].abs().sum() > 0 and not gradient[1].any()


def test_noise_has_its_deviation_and_is_another_for_targets():
    one = parse("noise:.2")
    one.shape((3, 64, 64))
    zeros = torch.zeros(2, 3, 64, 64)
    outputs, targets = one(zeros), one.degrade(zeros)
    assert abs(float(outputs.std()) - 0.4) < 0.01  # the range from -1 to 1 is two wide
    assert torch.equal(outputs[0], outputs[1]) and abs(float((outputs * targets).mean())) < 0.01
    assert targets.abs().max() <= 1


@pytest.fixture
def mask(tmp_path):
    """The file of a mask of 16x16 pixels whose left half is known; there is a comma in its name."""
    known = np.zeros((1, 16, 16), np.uint8)
    known[:, :, :8] = 255
    write_png(tmp_path / "left, known.png", known)
    return tmp_path / "left, known.png"


def test_hidden_pixels_take_the_nearest_known_one_or_grey(tmp_path):
    known = np.zeros((32, 32), bool)
    known[3, 5] = known[20, 20] = True
    write_png(tmp_path / "mask.png", known[None].astype(np.uint8) * 255)
    pixels = picture(32)
    expected = np.full((3, 32, 32), 127.5)
    for y, x in np.ndindex(32, 32):
        distance, a, b = min((np.hypot(y - a, x - b), a, b) for a, b in ((3, 5), (20, 20)))
        if distance <= 2:
            expected[:, y, x] = pixels[:, a, b]
    assert np.abs(observed(f"mask:{tmp_path}/mask.png", pixels) - expected).max() < 1e-3


def test_of_a_masked_target_only_known_pixels_count(mask):
    """Also where the mask follows something else; the composed picture has the known pixels of the target."""
    net, first = make_network(), picture(16)
    second = first.copy()
    second[:, :, 8:] = 255 - second[:, :, 8:]
    options = {"loss": "mse", "steps": 4, "observe": f"mask:{mask}"}
    a, b = si.project(net, [first, second], "w", compose=True, **options)
    assert torch.equal(a.code.tensors["w"], b.code.tensors["w"]) and torch.equal(a.target, b.target)
    assert torch.equal(a.composed[:, :, :8], torch.from_numpy(first)[:, :, :8])
    assert torch.equal(a.composed[:, :, 8:], a.image[:, :, 8:])
    assert a.metrics["truth"] != b.metrics["truth"] and a.metrics["psnr"] == b.metrics["psnr"]
    chain = si.project(net, first, "w", loss="mse", steps=2, observe=["grey", f"mask:{mask}"])
    grey = si.project(
        net, first // 3 + 80, "w", loss="mse", steps=2, observe="grey", compose=True
    )  # nothing is cut off
    kept = np.abs(observed("grey", grey.composed.numpy()) - grey.target.numpy())
    assert np.median(kept) < 1 and not torch.equal(grey.composed, grey.image)
    assert chain.target.shape == (1, 16, 16) and chain.record["options"]["observe"] == f"grey,mask:{mask}"


@pytest.mark.parametrize(
    "observe, message",
    [
        ("sepia", "'sepia' is unknown"),
        ("downsample:3", "the side has 16 pixels; the factor must divide it"),
        ("downsample:2.5", "whole number"),
        ("downsample:2:sinc", "no filter 'sinc'"),
        ("downsample", "has 0 values"),
        ("grey:1", "has 1 values"),
        ("grey,grey", "one channel already"),
        ("jpeg:0", "from 1 to 100"),
        ("jpeg:101", "from 1 to 100"),
        ("noise:nan", "from 0 to 1"),
        ("blur:x", "expected a number"),
        ("blur:1:2", "has 2 values"),
        ("mask:", "needs the file"),
        ("mask:nowhere.png", "no such file"),
        (7, "observe is a int"),
        ([], "observe is a list"),
    ],
)
def test_observations_that_make_no_sense_are_refused(observe, message):
    with pytest.raises(ValueError, match=message) as e:
        Projector(make_network(), "w", loss="mse", observe=observe)
    assert "\n" not in str(e.value)


def test_masks_that_do_not_fit_and_arguments_that_need_others_are_refused(tmp_path, mask):
    net, target = make_network(), picture(16)
    write_png(tmp_path / "empty.png", np.zeros((1, 16, 16), np.uint8))
    write_png(tmp_path / "small.png", np.full((1, 8, 8), 255, np.uint8))
    for wrong, message in (
        ({"observe": f"mask:{tmp_path}/empty.png"}, "the mask is empty"),
        ({"observe": f"mask:{tmp_path}/small.png"}, "8x8 pixels; what it is laid on has 16x16"),
        ({"observe": f"mask:{mask},blur:1", "observed": True}, "name the mask last"),
        ({"observed": True}, "no observation was named"),
        ({"observe": "blur:1", "compose": True}, "only a mask"),
        ({"observe": "grey", "truth": [target]}, "the truth is for targets that are observed already"),
        ({"observe": lambda x: x.mean(dim=[2, 3])}, "it must give pictures"),
    ):
        with pytest.raises(si.ProjectionError, match=message):
            si.project(net, [target], "w", loss="mse", steps=1, **wrong)


def test_a_damaged_target_gives_the_same_as_a_whole_one_that_is_damaged(tmp_path):
    """Result files: the target as it was compared, the truth, and all of it can be read back."""
    net, whole = make_network(), picture(16)
    options = {"loss": "mse", "steps": 3, "observe": "blur:1,downsample:2"}
    first = si.project(net, whole, "w+", **options)
    assert first.target.shape == (3, 8, 8) and np.array_equal(first.truth, whole)
    write_png(tmp_path / "small.png", first.target.numpy())
    write_png(tmp_path / "whole.png", whole)
    second = si.project(
        net, [str(tmp_path / "small.png")], "w+", observed=True, truth=[str(tmp_path / "whole.png")], **options
    )[0]
    assert torch.equal(first.code.tensors["w"], second.code.tensors["w"]) and first.metrics == second.metrics
    expected = 10 * np.log10(255**2 / np.square(whole.astype(float) - first.image.numpy()).mean())
    assert first.metrics["truth"]["psnr"] == pytest.approx(expected, rel=1e-5)
    assert Projection.read(first.save(tmp_path / "out")) == first
    assert np.array_equal(read_png(tmp_path / "out" / "truth.png"), whole)
    si.project(net, whole, "w+", loss="mse", steps=1).save(tmp_path / "out")
    assert not (tmp_path / "out" / "truth.png").exists()


def test_a_video_shows_a_smaller_grey_target_beside_the_output():
    target, output = np.arange(4, dtype=np.uint8).reshape(1, 2, 2), np.zeros((3, 4, 4), np.uint8)
    expected = np.repeat(np.kron(target[0], np.ones((2, 2), np.uint8))[None], 3, axis=0)
    assert np.array_equal(beside(target, output), expected)


def test_starts_from_samples_see_what_is_observed(tmp_path, monkeypatch):
    """Above the size of the samples' copies these are enlarged, observed and reduced, so the start is nearly as good."""
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path))
    monkeypatch.setattr(samples, "COUNT", 64)
    generator = adapt(make_network(32).G)
    z = torch.randn([1, 8], generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        target = generator.render(Code("z", {"z": z})).clamp(-1, 1)
    distances = []
    for side in (64, 8):
        monkeypatch.setattr(samples, "SIDE", side)
        one = Projector(generator, "fast-w", loss=MSE(), observe="blur:1,downsample:2")
        start = one.samples().regressed(one.view.compared(target), "w")
        with torch.no_grad():
            distances.append(float(MSE().between(target, generator.render(start).clamp(-1, 1))))
    with torch.no_grad():
        mean = float(MSE().between(target, generator.render(generator.center("w")).clamp(-1, 1)))
    assert distances[0] < 0.5 * mean and distances[1] < 0.7 * mean


def test_the_loss_at_several_resolutions_is_its_sum():
    a, b = (as_images(np.stack([picture(80, seed), picture(80, seed + 5)])) for seed in (1, 2))
    lpips, expected = SqueezeLPIPS(), 0
    for factor in (1, 2, 4):  # 80, 40 and 20 pixels; then 10
        halves = [x.reshape(2, 3, 80 // factor, factor, 80 // factor, factor).mean(dim=[3, 5]) for x in (a, b)]
        expected = expected + lpips.between(*halves)
    tenth = [x.reshape(2, 3, 10, 8, 10, 8).mean(dim=[3, 5]) for x in (a, b)]
    expected = expected + 0.1 * (tenth[0] - tenth[1]).abs().mean(dim=[1, 2, 3]) / 2
    assert torch.allclose(parse_loss("multi-squeeze").between(a, b), expected, rtol=1e-4)
    small = torch.nn.functional.avg_pool2d(a, 8), torch.nn.functional.avg_pool2d(b, 8)
    assert torch.allclose(
        parse_loss("multi-squeeze").between(*small), 0.05 * (small[0] - small[1]).abs().mean(dim=[1, 2, 3])
    )


def test_the_robust_stages_take_steps_of_their_lengths():
    """The first stage moves all layers together by one rate, the second each layer by a quarter of it."""
    net = make_network(32)
    places = []
    one = Projector(net, "robust", loss=MSE(), steps=3, observe="downsample:2")
    fit = one.fit(
        as_images(picture(32))[None], callback=lambda step: places.append((step.code.space, step.code.detached_copy()))
    )
    assert [space for space, _ in places] == ["w"] * 3 + ["w+"] * 3 and len(fit.distance) == 8
    unit = one.generator.spread("w")
    for first, rate in ((0, 0.008), (3, 0.002)):
        step = places[first + 1][1].tensors["w"] - places[first][1].tensors["w"]
        assert torch.allclose(step.norm(dim=-1), torch.full(step.shape[:-1], rate * unit), rtol=1e-3)
    assert fit.distance[-1] < fit.distance[0]


def test_the_anchor_is_its_formula_and_holds_the_code():
    start, rows = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = 2 * (rows - start).square().sum(dim=2).mean(dim=1) / 0.5**2
    assert torch.allclose(Anchor(2.0, start, 0.5)(rows), expected)
    assert torch.allclose(Anchor(2.0, start, 0.5).part([1])(rows[1:]), expected[1:])
    net, target = make_network(), as_images(picture(16))[None]
    for method in ("w+", "z"):
        moved = []
        for weight in (0.0, 1e3):
            one = Projector(net, method, loss=MSE(), steps=6, optimizer="lbfgs", anchor_weight=weight)
            z = torch.randn([1, 8], generator=torch.Generator().manual_seed(1))
            begin = one.generator.convert(Code("z", {"z": z}), method)
            code = one.fit(target, begin).code
            moved.append(float((code.tensors[method[0]] - begin.tensors[method[0]]).norm()))
        assert 0 < moved[1] < 0.1 * moved[0], method
    with pytest.raises(si.ProjectionError, match="anchor_weight has no effect here"):
        Projector(net, "dense", layer="b8.conv1", loss="mse", first_step="none", anchor_weight=1.0)


def test_the_command_restores(cli, tiny_file, tmp_path):
    write_png(tmp_path / "small.png", picture(4))
    write_png(tmp_path / "whole.png", picture(8))
    common = (
        "project",
        "-n",
        tiny_file,
        "-t",
        tmp_path / "small.png",
        "-o",
        tmp_path / "out",
        "--method",
        "w",
        "--loss",
        "mse",
    )
    common += ("--steps", 2, "--observe", "blur:1", "--observe", "downsample:2", "--observed")
    status, out, err = cli(*common, "--truth", tmp_path / "whole.png")
    assert status == 0, err
    assert read_png(tmp_path / "out" / "target.png").shape == (3, 4, 4)
    assert Projection.read(tmp_path / "out").metrics["truth"]["psnr"] > 0
    status, out, err = cli(*common, "--observe", "downsample:3")
    assert status == 1 and "the factor must divide it" in err and "Traceback" not in err


def test_the_study_compares_with_plain_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "COUNT", 32)
    net, folder = make_network(32), tmp_path / "data"
    folder.mkdir()
    for i in range(2):
        write_png(folder / f"{i}.png", picture(32, i))
    data, damages = base.picture_set(net, folder), ("mask:random", "downsample:2", "noise:0.1")
    ways = restoration.read_ways("fast-w,robust:1")
    monkeypatch.setattr(restoration.Way, "steps", 1)
    short = {"steps": 2}
    ways = [way._replace(options=tuple(short.items())) for way in ways]
    results = restoration.run(net, tmp_path / "out", data, ways=ways, damages=damages)
    answers = results["sets"]["downsample:2"]
    assert list(answers) == ["nearest-neighbour", "bicubic", "fast-w", "robust"]
    assert len(answers["fast-w"]["lpips"]) == 2 and len(answers["robust"]["lpips"]) == 1
    whole = data.pictures([0])[0]
    small = PIL.Image.fromarray(
        nearest_pixels(torch.from_numpy(observed("downsample:2", whole)) / 127.5 - 1).numpy().transpose(1, 2, 0)
    )
    expected = np.asarray(small.resize((32, 32), PIL.Image.BICUBIC)).transpose(2, 0, 1).astype(float)
    error = np.square(expected - whole).mean()
    assert answers["bicubic"]["psnr"][0] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-4)
    known = read_png(tmp_path / "out" / "random.png")[0] > 0
    assert 0.05 < known.mean() < 0.15 and "mean of known pixels" in results["sets"]["mask:random"]
    assert "fast-w" in (tmp_path / "out" / "table.md").read_text().splitlines()[-1]
    for wrong in ("fast-w:0", "nothing"):
        with pytest.raises(ValueError):
            restoration.read_ways(wrong)


def test_a_run_of_many_targets_observes_each(cli, tiny_file, tmp_path):
    """What is observed, with the contents of masks, belongs to the settings of the run's folder."""
    (tmp_path / "many").mkdir()
    for i in range(2):
        write_png(tmp_path / "many" / f"{i}.png", picture(8, i))
    mask = tmp_path / "mask.png"
    write_png(mask, np.eye(8, dtype=np.uint8)[None] * 255)
    common = (
        "project",
        "-n",
        tiny_file,
        "-t",
        tmp_path / "many",
        "-o",
        tmp_path / "out",
        "--method",
        "w",
        "--loss",
        "mse",
    )
    common += ("--steps", 1, "--observe", f"mask:{mask}", "--compose")
    status, _, err = cli(*common)
    assert status == 0, err
    for i in range(2):
        one = Projection.read(tmp_path / "out" / str(i))
        assert one.composed[0].diagonal().equal(torch.from_numpy(picture(8, i))[0].diagonal())
    write_png(mask, 255 - np.eye(8, dtype=np.uint8)[None] * 255)
    assert cli(*common)[0] != 0
    status, _, err = cli(*common, "--truth", tmp_path / "many")
    assert status == 2 and "--truth is for one target" in err
