"""Distances against independent float64 calculations, and the checks of their input."""
# Takes at most 9 CPU seconds.

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylegan_invert import losses, pretrained
from stylegan_invert.files.writing import sha256_of_file
from stylegan_invert.losses import parse
from stylegan_invert.networks.backbones import VGG16
from stylegan_invert.networks.inception import InceptionV3
from stylegan_invert.projectors.loss import build_loss

from official import HERE


def pictures(n=2, size=40, channels=3, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def lpips_by_hand(layers, heads, a, b):
    """LPIPS in float64 from its definition; ``layers`` maps a normalised picture to its feature maps."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).reshape(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).reshape(3, 1, 1)
    total = 0
    for fa, fb, head in zip(layers((a.double() - shift) / scale), layers((b.double() - shift) / scale), heads):
        na, nb = (f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for f in (fa, fb))
        total = total + torch.einsum("nchw,c->nhw", (na - nb) ** 2, head.double().flatten()).mean(dim=(1, 2))
    return total


def squeezenet_by_hand(weights):
    def conv(x, name, **kwargs):
        return F.conv2d(x, weights[name + ".weight"].double(), weights[name + ".bias"].double(), **kwargs)

    def fire(x, i):
        x = conv(x, f"features.{i}.squeeze").relu()
        return torch.cat(
            [conv(x, f"features.{i}.expand1x1").relu(), conv(x, f"features.{i}.expand3x3", padding=1).relu()], 1
        )

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def layers(x):
        f1 = conv(x, "features.0", stride=2).relu()
        f2 = fire(fire(pool(f1), 3), 4)
        f3 = fire(fire(pool(f2), 6), 7)
        f4 = fire(pool(f3), 9)
        f5 = fire(f4, 10)
        f6 = fire(f5, 11)
        return [f1, f2, f3, f4, f5, f6, fire(f6, 12)]

    return layers


@pytest.mark.parametrize("size", [32, 45, 64])
def test_lpips_squeeze_is_its_definition(size):
    weights = pretrained.tensors("lpips_squeeze.safetensors")
    a, b = pictures(size=size), pictures(size=size, seed=1)
    expected = lpips_by_hand(squeezenet_by_hand(weights), [weights[f"lin{i}"] for i in range(7)], a, b)
    torch.testing.assert_close(losses.SqueezeLPIPS().between(a, b).double(), expected, rtol=1e-4, atol=0)


def test_lpips_vgg_from_a_torchvision_state_dict_is_its_definition(tmp_path):
    torch.manual_seed(0)
    backbone = VGG16()
    torch.save({**backbone.state_dict(), "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    heads = pretrained.tensors("lpips_vgg_heads.safetensors")

    def layers(x):
        found, conv = [], iter(m for m in backbone.features if isinstance(m, torch.nn.Conv2d))
        for block, count in enumerate((2, 2, 3, 3, 3)):
            x = F.max_pool2d(x, 2) if block else x
            for _ in range(count):
                m = next(conv)
                x = F.conv2d(x, m.weight.double(), m.bias.double(), padding=1).relu()
            found.append(x)
        return found

    a, b = pictures(), pictures(seed=1)
    with torch.no_grad():
        expected = lpips_by_hand(layers, [heads[f"lin{i}"] for i in range(5)], a, b)
    got = losses.load_vgg_lpips(tmp_path / "vgg16.pth").between(a, b)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=0)
    assert losses.reported_lpips(losses.parse("mse,lpips-vgg", vgg16=tmp_path / "vgg16.pth"))[0] == "vgg"


def test_a_scripted_vgg16_is_called_as_the_official_one(features):
    a, b = pictures(), pictures(seed=1)
    network = torch.jit.load(features)
    fa, fb = (network((x + 1) * 127.5, resize_images=False, return_lpips=True) for x in (a, b))
    got = losses.load_vgg_lpips(features, run_torchscript=True).between(a, b)
    torch.testing.assert_close(got, (fa - fb).square().sum(1))


def test_large_pictures_are_compared_at_256():
    loss = losses.SqueezeLPIPS()
    a, b = pictures(1, 512), pictures(1, 512, seed=1)
    small = [F.avg_pool2d(x, 2) for x in (a, b)]
    torch.testing.assert_close(loss.between(a, b), loss.between(*small))


def test_pixel_losses_are_means():
    a, b = pictures().double(), pictures(seed=1).double()
    torch.testing.assert_close(losses.MSE().between(a, b), ((a - b) ** 2).mean((1, 2, 3)))
    torch.testing.assert_close(losses.L1().between(a, b), (a - b).abs().mean((1, 2, 3)))


def test_sums_by_weight_with_gradients():
    a, b = pictures(), pictures(seed=1).requires_grad_(True)
    got = losses.parse("lpips-squeeze=2,mse=0.5, l1").between(a, b)
    parts = losses.SqueezeLPIPS().between(a, b), losses.MSE().between(a, b), losses.L1().between(a, b)
    torch.testing.assert_close(got, 2 * parts[0] + 0.5 * parts[1] + parts[2])
    (grad,) = torch.autograd.grad(got.sum(), b)
    assert torch.isfinite(grad).all() and grad.abs().max() > 0
    assert losses.SqueezeLPIPS().between(a, a).abs().max() == 0


def test_grey_and_alpha():
    loss = losses.SqueezeLPIPS()
    grey = pictures(channels=1), pictures(channels=1, seed=1)
    torch.testing.assert_close(loss.between(*grey), loss.between(*(x.repeat(1, 3, 1, 1) for x in grey)))
    rgba = pictures(channels=4), pictures(channels=4, seed=1)
    torch.testing.assert_close(loss.between(*rgba), loss.between(*(x[:, :3] for x in rgba)))


@pytest.mark.parametrize(
    "images, reason",
    [
        (torch.zeros(3, 40, 40), r"shape \(3, 40, 40\); expected \(N, C, H, W\)"),
        (torch.zeros(1, 2, 40, 40), "C of 1, 3 or 4"),
        (torch.zeros(1, 3, 40, 40, dtype=torch.uint8), "torch.uint8; expected float32"),
        (torch.full((1, 3, 40, 40), 200.0), r"values from 200 to 200; expected \[-1, 1\]"),
        (torch.full((1, 3, 40, 40), math.nan), "values from nan to nan"),
        (torch.zeros(1, 3, 16, 40), "40x16 pixels; this distance needs at least 17x17"),
    ],
)
def test_wrong_pictures_are_named(images, reason):
    with pytest.raises(ValueError, match=reason):
        losses.SqueezeLPIPS().prepare(images)


@pytest.mark.parametrize(
    "text, reason",
    [
        (
            "lpips",
            "loss 'lpips' in 'lpips' is unknown; expected names from lpips-squeeze, lpips-vgg, multi-squeeze, multi-vgg, mse, l1",
        ),
        ("mse=x", "weight 'x' of 'mse'"),
        ("mse=-1", "weight '-1' of 'mse'"),
        ("mse=0", "every weight"),
        ("", "loss ''"),
        ("lpips-vgg", "--vgg16"),
    ],
)
def test_wrong_loss_texts_are_named(text, reason):
    with pytest.raises(ValueError, match=reason):
        losses.parse(text)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x80\x04."])
def test_a_wrong_vgg_file_is_named(content, tmp_path):
    (tmp_path / "vgg.pt").write_bytes(content)
    with pytest.raises(ValueError, match="vgg.pt: .*expected a TorchScript file like the official vgg16.pt"):
        losses.load_vgg_lpips(tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match="there is no such file; expected a TorchScript file"):
        losses.load_vgg_lpips(HERE / "nothing.pt")


def test_a_changed_state_dict_of_vgg16_is_named(tmp_path):
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in VGG16().state_dict().items()}
    state = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    torch.save(state, tmp_path / "vgg.pth")
    assert losses.load_vgg_lpips(tmp_path / "vgg.pth").backbone.features[0].weight.dtype == torch.float32
    name = "features.0.bias"
    for value, error in (
        (None, "is missing"),
        (torch.zeros(63), r"has the shape \(63,\); expected \(64,\)"),
        (torch.full([64], math.nan), "has numbers that are nan or infinite"),
        (torch.zeros(64, dtype=torch.int64), "has numbers of torch.int64"),
        (3, "is 3; expected a tensor"),
    ):
        torch.save({k: v for k, v in {**state, name: value}.items() if v is not None}, tmp_path / "vgg.pth")
        with pytest.raises(ValueError, match=f"vgg.pth: {name} {error}"):
            losses.load_vgg_lpips(tmp_path / "vgg.pth")


class OtherSignature(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3])


class Raises(torch.nn.Module):
    def forward(self, x: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        if x.shape[0] > 0:
            raise ValueError("it is a trap")
        return x


class ReturnsPictures(torch.nn.Module):
    def forward(self, x: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        return x


class HasNoGradient(torch.nn.Module):
    def forward(self, x: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        return x.mean(dim=[2, 3]).round().to(torch.int64).to(torch.float32)


class Works(torch.nn.Module):
    def forward(self, x: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        return x.mean(dim=[2, 3])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "module, error",
    [
        (OtherSignature, "its program failed"),
        (Raises, "its program failed .*it is a trap"),
        (ReturnsPictures, "its program returns something else than a vector per picture"),
        (HasNoGradient, "its program has no gradient"),
        (Works, None),
    ],
)
def test_a_program_is_run_only_when_it_is_allowed(module, error, tmp_path):
    path = tmp_path / "vgg.pt"
    torch.jit.script(module()).save(path)
    with pytest.raises(ValueError, match=r"vgg.pt: it is a TorchScript program, .* --run-torchscript") as refused:
        losses.parse("lpips-vgg", vgg16=path)
    assert str(refused.value).isprintable()
    if error is None:
        loss = losses.parse("lpips-vgg", run_torchscript=True, vgg16=path)
        torch.testing.assert_close(loss.between(pictures(), pictures()), torch.zeros(2))
        return
    with pytest.raises(ValueError, match=f"vgg.pt: {error}") as refused:
        losses.parse("lpips-vgg", run_torchscript=True, vgg16=path)
    assert str(refused.value).isprintable() and "\n" not in str(refused.value)


def test_no_file_of_weights_is_hashed_that_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stylegan_invert.projectors.loss.sha256_of_file", lambda path: pytest.fail("it was hashed"))
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    (tmp_path / "other").write_bytes(b"<html>")
    for name in ("large", "other"):
        for loss, option in (("lpips-vgg", "vgg16"), ("features", "inception")):
            with pytest.raises(ValueError, match=f"{name}: .*expected|{name}: .*has at most"):
                build_loss(loss, {option: tmp_path / name}, torch.device("cpu"))


def test_the_official_program_is_known_by_its_checksum(features, monkeypatch):
    with pytest.raises(ValueError, match="its SHA-256 is not that of the official vgg16.pt"):
        losses.load_vgg_lpips(features)
    monkeypatch.setattr("stylegan_invert.losses.lpips.VGG16_SHA256", sha256_of_file(features))
    losses.load_vgg_lpips(features)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 11, 17)])
@pytest.mark.parametrize("noise", [1, 20, 200])
def test_metrics_equal_those_of_torchmetrics(shape, noise):
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, shape[0], 4, 4, generator=generator) * 255
    a = F.interpolate(a, size=shape[1:], mode="bilinear").round()
    b = (a + noise * torch.randn(a.shape, generator=generator)).round().clamp(0, 255)
    metrics = losses.picture_metrics(a[0].to(torch.uint8), b[0].to(torch.uint8), {})
    psnr = peak_signal_noise_ratio(b, a, data_range=(0.0, 255.0))
    ssim = structural_similarity_index_measure(b, a, data_range=(0.0, 255.0))
    assert metrics["psnr"] == pytest.approx(float(psnr), rel=1e-6)
    assert metrics["ssim"] == pytest.approx(float(ssim), abs=1e-6)


def test_metrics_are_their_formulas():
    rng = np.random.RandomState(0)
    a = rng.randint(256, size=(3, 32, 32)).astype(np.uint8)
    b = np.clip(a.astype(int) + rng.randint(-20, 20, size=a.shape), 0, 255).astype(np.uint8)
    got = losses.picture_metrics(torch.from_numpy(a), torch.from_numpy(b), {"lpips": losses.SqueezeLPIPS()})
    mse = ((a.astype(float) - b) ** 2).mean()
    assert got["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-5)

    # SSIM, Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, over the pixels whose window fits.
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = torch.from_numpy(np.outer(g, g) / g.sum() ** 2)[None, None]

    def mean(x):
        return F.conv2d(torch.from_numpy(x.astype(float))[:, None], window)

    x, y = a.astype(float), b.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert got["ssim"] == pytest.approx(float(ssim), abs=2e-3)
    same = losses.picture_metrics(torch.from_numpy(a), torch.from_numpy(a), {"lpips": losses.SqueezeLPIPS()})
    assert same == {"psnr": None, "ssim": pytest.approx(1.0), "lpips": 0.0}
    tiny = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert losses.picture_metrics(tiny, tiny + 1, {"lpips": losses.SqueezeLPIPS()})["lpips"] is None


def test_sums_and_means_of_pixels_are_their_formulas():
    a, b = (torch.rand([2, 3, 9, 9], dtype=torch.float32) * 2 - 1 for _ in range(2))
    difference = (a.double() - b.double()) / 2
    torch.testing.assert_close(
        parse("sse").between(a, b).double(), difference.square().sum([1, 2, 3]), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        parse("mse=0.25").between(a, b).double(), difference.square().mean([1, 2, 3]), rtol=1e-5, atol=0
    )


def test_feature_distances_are_sums_and_means_of_one_map():
    a, b = (torch.rand([2, 3, 40, 40]) * 2 - 1 for _ in range(2))
    mean, total = parse("features"), parse("features-sum")
    assert mean.distances[0].name == "squeezenet1_1 features.12" and mean.distances[0].features(a).shape == (
        2,
        512,
        7,
        7,
    )
    torch.testing.assert_close(mean.between(a, b) * 512 * 49, total.between(a, b))
    assert (mean.between(a, a) == 0).all()
    grey = a[:, :1]
    torch.testing.assert_close(
        mean.between(grey, b[:, :1]), mean.between(grey.repeat(1, 3, 1, 1), b[:, :1].repeat(1, 3, 1, 1))
    )


def test_inception_is_read_from_torchvisions_state_dict(tmp_path):
    """Names and sizes of torchvision's file, whose further layers are left alone; the weights here are random."""
    network = InceptionV3().eval()
    state = network.state_dict()
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_5b.branch3x3dbl_3.conv.weight"].shape == (96, 96, 3, 3)
    assert state["Mixed_6c.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert state["Mixed_7a.branch7x7x3_2.bn.running_var"].shape == (192,)
    torch.save(
        {**state, "Mixed_7b.branch1x1.conv.weight": torch.zeros(3), "fc.bias": torch.zeros(1000)}, tmp_path / "i.pth"
    )
    loss = parse("features", inception=tmp_path / "i.pth")
    assert loss.distances[0].name == "inception_v3 Mixed_7a"
    x = torch.rand([1, 3, 32, 32]) * 2 - 1
    with torch.no_grad():
        got = loss.distances[0].features(x)
        large = torch.nn.functional.interpolate(x, [299, 299], mode="bilinear", align_corners=False)
        torch.testing.assert_close(got, network(large), rtol=1e-4, atol=1e-5)
    assert got.shape == (1, 1280, 8, 8)
    torch.save({"x": torch.zeros(1)}, tmp_path / "no.pth")
    with pytest.raises(
        ValueError,
        match=r"no.pth: Conv2d_1a_3x3.conv.weight is missing; expected torchvision's state dict of InceptionV3",
    ):
        parse("features", inception=tmp_path / "no.pth")
