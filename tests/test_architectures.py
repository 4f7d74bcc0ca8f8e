"""Training of BigGAN, ProGAN and DCGAN: their weights, regularisers, growth, files, and runs that go on; docs/training.md."""
# Takes at most 30 CPU seconds.

import copy
import io
import json
import math

import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.files.saved import read_saved
from stylegan_invert.generator import label
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.network_files import safetensors_file
from stylegan_invert.networks.progan import widen
from stylegan_invert.networks.trained_weights import SpectralNorm, finished, named_weights, narrowed, spectral_norms
from stylegan_invert.training import gan, loop
from stylegan_invert.training.architectures import ARCHITECTURES, class_of
from stylegan_invert.training.architectures.biggan import add_orthogonal_gradients
from stylegan_invert.training.gan import GANTrainer
from stylegan_invert.training.gan_losses import GANLoss
from stylegan_invert.training.standing import set_standing_statistics

TINY = {
    "biggan": dict(resolution=8, ch=2, z_dim=6, shared_dim=3, standing=2, batch=4),
    "progan": dict(resolution=16, fmap_base=32, fmap_max=6, z_dim=5, batch=4, grow_kimg=0.004, fade_kimg=0.012),
    "dcgan": dict(resolution=8, width=2, z_dim=5, standing=2, batch=4),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve pictures of noise in three classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        pixels = np.random.RandomState(i).randint(256, size=(16, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"{i:02d}.png", i % 3] for i in range(12)]}))
    return folder


def made(folder, arch, classes=False, **chosen):
    settings = {**TINY[arch], **chosen}
    settings.pop("channels", None)  # they are those of the pictures
    data = PictureSet(folder, resolution=settings.pop("resolution"), use_labels=classes)
    data.check()
    return data, ARCHITECTURES[arch].options.for_data(data, **settings)


def trainer_of(folder, arch, classes=False, **chosen):
    data, options = made(folder, arch, classes, **chosen)
    return GANTrainer(options, data)


def latents(trainer, n=3):
    z = torch.randn([n, trainer.options.z_dim], generator=torch.Generator().manual_seed(7))
    return z, trainer.labels[:n]


RUNS = [
    ("biggan", True, "direction"),
    ("biggan", False, "none"),
    ("progan", False, "direction"),
    ("dcgan", False, "none"),
]


@pytest.mark.parametrize("arch, classes, head", [*RUNS, ("progan", False, "none"), ("dcgan", False, "direction")])
def test_networks_train_and_their_files_hold_them(folder, tmp_path, arch, classes, head):
    trainer = trainer_of(folder, arch, classes, head=head)
    before = copy.deepcopy(trainer.G.state_dict())
    for _ in range(4):
        trainer.step()
    assert any(not torch.equal(before[name], value) for name, value in trainer.G.state_dict().items())
    steps = trainer.options.D_steps
    assert trainer.nimg == 16 * steps and trainer.steps == 4 and trainer.loss.stats.finite()
    path = trainer.network_path(tmp_path)
    assert path in trainer.architecture.write(trainer, path, {"path": "x"})
    net = si.load(path)
    z, c = latents(trainer)
    shown = trainer.architecture.shown(trainer.G_ema, trainer.labels)
    assert torch.equal(net.G(z, c) if net.G.c_dim else net.G(z), shown(z, c))
    assert torch.equal(net["G"](z, c) if net.G.c_dim else net["G"](z), finished(trainer.G)(z, c))
    img = torch.rand([3, 3, *[net.G.img_resolution] * 2]) * 2 - 1
    D = trainer.D if head == "none" else trainer.D.trunk
    torch.testing.assert_close(net.D(img, c), finished(D)(img, c))
    assert (net.direction is None) == (head == "none")
    if head == "direction":
        embedded = finished(trainer.D_ema).embed(img)
        assert torch.equal(net.direction.embed(img).direction, embedded.direction)
        assert net.direction.normalize_z == (arch == "progan") and net.direction.invert(img).shape == z.shape
        assert trainer.loss.stats.means()["angle"] > 0


@pytest.mark.parametrize("arch, classes, head", RUNS)
def test_a_run_that_stops_and_goes_on_ends_as_one_that_did_not(folder, arch, classes, head):
    """ProGAN has faded in 8x8 halfway when it stops, and comes to 16x16 afterwards."""
    options = {"head": head, "augment": "fixed", "augment_p": 0.3, "gamma": 1.0, "batch_gpu": 2}
    options |= {"mbstd_group_size": 2} if arch == "progan" else {}
    whole = trainer_of(folder, arch, classes, **options)
    lods = []
    for _ in range(7):
        whole.step()
        lods.append(getattr(whole.G, "lod", 0))
    again = GANTrainer(whole.options, whole.data)
    for _ in range(3):
        again.step()
    saved = io.BytesIO()
    torch.save(again.state(), saved)
    torch.manual_seed(99)
    third = GANTrainer(whole.options, whole.data)
    third.load_state(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    for _ in range(4):
        third.step()
    assert differences(whole.state(), third.state()) == []
    if arch == "progan":
        assert 1 < lods[2] < 2 and lods[-1] < 1


def differences(a, b, place=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        return [d for key in a for d in differences(a[key], b[key], f"{place}.{key}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [place]


def test_a_whole_run_writes_its_files_and_goes_on_from_its_folder(folder, tmp_path, cli):
    sizes, run = "--ch 2 --z-dim 6".split(), tmp_path / "run"
    args = f"train --arch biggan --cond --head direction --resolution 8 --batch 4 --data {folder} --device cpu".split()
    args += "--quiet --standing 2 --tick 0.008 --snap 1 --metric-samples 0".split()
    code, _, err = cli(*args, *sizes, "--kimg", 0.016, "--outdir", run)
    assert code == 0, err
    newest = run / "network-snapshot-000000.safetensors"
    wanted = {newest.name, "G_ema.pth", "G.pth", "D.pth", "fakes000000.png", "reals.png"}
    assert wanted <= {path.name for path in run.iterdir()}
    code, _, err = cli("train", "--resume", run, "--kimg", 0.024, "--quiet")
    assert code == 0, err
    assert json.loads((run / loop.LOG).read_text().splitlines()[-1])["nimg"] == 24
    net, theirs = si.load(newest), si.load(run / "G_ema.pth")
    z, c = torch.randn([3, 6]), torch.eye(3)
    img = net.G(z, c)
    torch.testing.assert_close(theirs.G(z, c), img, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs.D(img, c), net.D(img, c), rtol=1e-4, atol=1e-4)
    project = ["project", "-n", newest, "-t", folder / "00.png", "-o", tmp_path / "p", "--method", "de"]
    code, _, err = cli(*project, "--class", 1)
    assert code == 0, err
    start = ["--resume", newest, "--outdir", tmp_path / "next", "--kimg", 0.008]
    code, _, err = cli(*args, *start)
    assert code == 0, err
    code, _, err = cli(*args, *sizes, *start)
    assert code == 2 and "--z-dim, --ch cannot be chosen for the weights of a network file" in " ".join(err.split())


@pytest.mark.parametrize(
    "args, message",
    [
        (["--arch", "biggan", "--mixing", 0.5, "--fp32"], "--mixing, --fp32 has no meaning with --arch biggan"),
        (["--arch", "stylegan2", "--fade-kimg", 3], "--fade-kimg has no meaning with --arch stylegan2"),
        (["--arch", "progan", "--cond"], "--arch progan is trained without classes"),
        (["--arch", "biggan", "--resolution", 16, "--z-dim", 7], "z_dim is 7; expected a multiple of 3"),
        (["--arch", "biggan", "--resolution", 8, "--attention", 32], "attention is 32; expected one of 0, 8"),
        (["--arch", "biggan", "--resolution", 512], "expected an integer from 8 to 256"),
        (["--arch", "progan", "--grow-kimg", 0, "--fade-kimg", 1], "--fade-kimg has no meaning with --grow-kimg 0"),
        (["--arch", "dcgan", "--batch-gpu", 1], "batch normalisation needs rounds of at least two pictures"),
        (["--arch", "dcgan", "--resume", "cats32"], "a file with a DCGAN and its discriminator"),
        (["--arch", "stylegan2", "--resume", "faces64"], "it is not a StyleGAN2"),
    ],
)
def test_what_an_architecture_has_no_use_for_is_refused(folder, tmp_path, cli, args, message):
    code, _, err = cli("train", "--data", folder, "--outdir", tmp_path / "run", *args)
    assert code != 0 and message in " ".join(err.split()) and not (tmp_path / "run").exists()


# Weights in training


@pytest.mark.parametrize("transposed", [False, True])
def test_spectral_normalisation(transposed):
    """Against one step of the power iteration in NumPy, and the derivative of W / (v W u) with v and u held."""
    torch.manual_seed(0)
    w, weights = (
        torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True),
        torch.randn(4, 3, 2, dtype=torch.float64),
    )
    norm = SpectralNorm(w.detach(), transposed=transposed).double().train()
    matrix = w.detach().flatten(1).numpy()
    matrix = matrix.T if transposed else matrix
    v = norm.u0.numpy()[0] @ matrix
    v /= np.linalg.norm(v)
    u = matrix @ v
    sigma, u = np.linalg.norm(u), u / np.linalg.norm(u)
    got = norm(w)
    np.testing.assert_allclose(got.detach().numpy(), w.detach().numpy() / sigma, rtol=1e-10)
    np.testing.assert_allclose(norm.u0.numpy()[0], u, rtol=1e-10)
    (got * weights).sum().backward()
    outer = np.outer(v, u) if transposed else np.outer(u, v)
    along = float((weights * w.detach()).sum())
    expected = weights.numpy() / sigma - along / sigma**2 * outer.reshape(4, 3, 2)
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-8)
    for _ in range(200):
        norm(w.detach())
    assert float(norm.sv0) == pytest.approx(np.linalg.norm(matrix, 2))
    settled = norm.u0.clone()
    norm.eval()(w.detach() + 1)
    assert torch.equal(norm.u0, settled)


def test_every_weight_of_a_biggan_is_normalised_but_the_embedding(folder):
    trainer = trainer_of(folder, "biggan", True)
    for network in (trainer.G, trainer.D):
        assert named_weights(network).keys() - spectral_norms(network).keys() <= {"shared"}
        for name, module in named_weights(finished(network)).items():
            if name != "shared":  # orthogonal weights, whose singular values are all one
                assert float(torch.linalg.matrix_norm(module.weight.flatten(1), 2)) == pytest.approx(1, abs=1e-4)


def test_orthogonal_regularisation(folder):
    """Against the derivative of Brock et al., equation 3, taken by autograd, of every weight but the embedding."""
    G = trainer_of(folder, "biggan", True).G.requires_grad_(True)
    weights = [p for name, p in G.named_parameters() if p.ndim > 1 and not name.startswith("shared")]
    total = 0
    for p in weights:
        p.data += 0.1 * torch.randn_like(p)
        rows = p.reshape(len(p), -1)
        products = torch.einsum("ik,jk->ij", rows, rows)
        total = total + products.square().sum() - products.diagonal().square().sum()
    expected = torch.autograd.grad(3e-2 * total, weights)
    weights[0].grad = torch.ones_like(weights[0])
    add_orthogonal_gradients(G, 3e-2)
    torch.testing.assert_close(weights[0].grad, expected[0] + 1)
    for p, gradient in zip(weights[1:], expected[1:]):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in G.shared.parameters()) and G.bn.gain.grad is None


@pytest.mark.parametrize("arch", ["biggan", "dcgan"])
def test_standing_statistics(folder, arch):
    """Those of the first normalisation against NumPy; a normalised map then has mean 0 and variance 1."""
    trainer = trainer_of(folder, arch, arch == "biggan")
    G = finished(trainer.G)
    batches = [(torch.randn([8, trainer.options.z_dim]), trainer.labels[:8]) for _ in range(3)]
    set_standing_statistics(G, batches)
    assert not any(module.training for module in G.modules())
    first = G.blocks[0].bn1 if arch == "biggan" else G.dense_norm
    mean, var = (first.mean[0], first.var[0]) if arch == "biggan" else (first.running_mean, first.running_var)
    maps = [
        (G.linear(z[:, :3]) if arch == "biggan" else G.dense(z[:, :, None, None])).detach().numpy() for z, _ in batches
    ]
    np.testing.assert_allclose(mean, np.mean([m.mean(axis=(0, 2, 3)) for m in maps], axis=0), rtol=1e-4, atol=1e-6)
    expected = np.mean([np.moveaxis(m, 1, 0).reshape(m.shape[1], -1).var(axis=1, ddof=1) for m in maps], axis=0)
    np.testing.assert_allclose(var, expected, rtol=1e-4)


def test_a_biggan_in_training_normalises_by_its_batch(folder):
    """A picture depends on the others of its batch in training, and not in a file; the stored statistics move."""
    trainer = trainer_of(folder, "biggan", True)
    z, c = torch.randn([4, 6]), trainer.labels[:4]
    stored = trainer.G.bn.mean.clone()
    alone, together = trainer.G(z[:2], c[:2]), trainer.G(z, c)[:2]
    assert (alone - together).abs().max() > 1e-3 and not torch.equal(stored, trainer.G.bn.mean)
    G = finished(trainer.G)
    torch.testing.assert_close(G(z[:2], c[:2]), G(z, c)[:2])


def test_equalised_rates(folder):
    """Trained weights have unit variance, and the layers keep about the variance of what they are given."""
    kernel = torch.randn(3, 2, 3, 3)
    torch.testing.assert_close(narrowed(widen(kernel)), kernel)
    trainer = trainer_of(folder, "progan", fmap_base=1024, fmap_max=64, z_dim=64, grow_kimg=0, fade_kimg=0)
    G, still = trainer.G, finished(trainer.G)
    for module in named_weights(G).values():
        trained = module.parametrizations.weight.original
        assert trained.std() == pytest.approx(1, abs=4 / math.sqrt(trained.numel()))
        assert module.bias.abs().max() == 0
    assert still.b16.conv0.weight.shape[2:] == (4, 4)
    z = torch.randn([64, 64])
    assert still(z).std() == pytest.approx(1, abs=0.35) and torch.equal(still(z), G(z))


def test_growth(folder):
    """The level of detail of the official schedule; real pictures are blended as the generator blends its own."""
    options = made(folder, "progan", grow_kimg=3, fade_kimg=2)[1]
    for kimg, lod in [(0, 2), (2.9, 2), (4, 1.5), (5, 1), (8, 1), (9.5, 0.25), (10, 0), (100, 0)]:
        assert options.lod(round(kimg * 1000)) == pytest.approx(lod)
    assert made(folder, "progan", grow_kimg=0, fade_kimg=0)[1].lod(0) == 0
    trainer = trainer_of(folder, "progan", grow_kimg=0.004, fade_kimg=0.008)
    seen = []
    for _ in range(5):
        trainer.step()
        seen.append((trainer.G.lod, trainer.D.lod, trainer.G_ema.lod, len(trainer.phases[0].optimiser.state) > 0))
    assert [s[0] for s in seen] == pytest.approx([2, 1.5, 1, 1, 0.5]) and all(a == b == c for a, b, c, _ in seen)
    assert [s[3] for s in seen] == [
        True,
        False,
        False,
        True,
        False,
    ]  # the means are forgotten where the lod changes kind
    x = torch.rand([2, 3, 16, 16])
    small = x.unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean(dim=(3, 5))
    expected = 0.5 * x + 0.5 * small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(trainer.architecture.real(x), expected)
    still = trainer.network_file()
    assert still.G.init_kwargs["lod"] == still.D.init_kwargs["lod"] == 0.5


def test_a_growing_file_keeps_its_state_of_growth(folder, tmp_path):
    trainer = trainer_of(folder, "progan", grow_kimg=0.004, fade_kimg=0.008)
    for _ in range(2):
        trainer.step()
    path = tmp_path / "a.safetensors"
    trainer.architecture.write(trainer, path, None)
    net = si.load(path)
    assert net.G.lod == 1.5
    with pytest.raises(si.TrainingError, match="that are fully grown"):
        class_of("progan").settings_of(net)


def test_drift_is_added_to_the_loss_of_real_pictures():
    D = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    loss = GANLoss("cpu", None, lambda img, c: D(img), adversarial="wgan-gp", drift=0.25)
    img = torch.rand([2, 3, 2, 2])
    torch.testing.assert_close(loss._real(img, img[:, :0], True, False), 0.25 * D(img) ** 2 - D(img))


# Starting from a file


@pytest.mark.parametrize("arch", ["biggan", "progan", "dcgan"])
@pytest.mark.parametrize("head", ["none", "direction"])
def test_a_run_starts_from_a_file(folder, tmp_path, arch, head):
    """BigGAN's weights begin divided by their largest singular value, and all others as they are in the file."""
    grown = dict(grow_kimg=0, fade_kimg=0) if arch == "progan" else {}
    first = trainer_of(folder, arch, arch == "biggan", head=head, **grown)
    for _ in range(2):
        first.step()
    safetensors_file.write(first.network_file(), tmp_path / "a.safetensors")
    net = si.load(tmp_path / "a.safetensors")
    settings = class_of(arch).settings_of(net)
    assert settings["resolution"] == net.G.img_resolution
    trainer = trainer_of(folder, arch, arch == "biggan", **{**grown, **settings}, head=head, seed=5)
    trainer.start_from(net)
    for module, source in (
        (trainer.G_ema, net.G),
        (trainer.G, net["G"]),
        (trainer.D if head == "none" else trainer.D.trunk, net.D),
    ):
        there = dict(source.named_parameters())
        for name, value in finished(module).named_parameters():
            expected = there[name]
            if arch == "biggan" and name.endswith("weight") and name != "shared.weight":
                expected = expected / torch.linalg.matrix_norm(expected.flatten(1), 2)
            torch.testing.assert_close(value, expected, rtol=1e-4 if arch == "biggan" else 1e-5, atol=1e-5)
    if head == "direction":
        assert torch.equal(trainer.D.outputs.weight, net.extra["direction"]["outputs"]["weight"])
    trainer.step()


def test_one_class_needs_no_label(folder):
    trainer = trainer_of(folder, "biggan")
    assert torch.equal(trainer.labels, torch.ones([12, 1])) and torch.equal(label(1, None), torch.ones([1, 1]))
    with pytest.raises(ValueError, match="this network has 2 classes and none was given"):
        label(2, None)


def test_the_architecture_of_a_run_is_written_down(folder, tmp_path):
    data, options = made(folder, "dcgan", kimg=0.004)
    gan.train(data, options, tmp_path / "run", metric_samples=0)
    assert gan.architecture_of_run(tmp_path / "run") == "dcgan"
    assert loop.read_options(tmp_path / "run", type(options), gan.RHYTHM)["options"] == options
    saved = read_saved(tmp_path / "run" / loop.CHECKPOINT, loop.door.CHECKPOINT)
    assert saved["options"]["width"] == 2
    net, plain = (si.load(tmp_path / "run" / name) for name in ("network-snapshot-000000.safetensors", "G_ema.pt"))
    z = torch.randn([2, 5])
    assert torch.equal(net.G(z), plain.G(z))
    path = tmp_path / "run" / loop.OPTIONS
    path.write_text(path.read_text().replace('"dcgan"', '"other"'))
    with pytest.raises(si.TrainingError, match="other"):
        gan.architecture_of_run(tmp_path / "run")
