"""Whole programs on a simulated GPU: no tensor and no random generator on the wrong device, and the numbers of a CPU."""
# Takes at most 60 CPU seconds.

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import Code, adapt
from stylegan_invert.generator.encoding import entries
from stylegan_invert.io.encoder_file import About, write_encoder
from stylegan_invert.io.gaussian_file import write_gaussian
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.networks import biggan, dcgan, progan, stylegan1, stylegan3
from stylegan_invert.networks.encoder import Encoder
from stylegan_invert.projectors import Projector
from stylegan_invert.projectors.methods import METHODS
from stylegan_invert.training import gan
from stylegan_invert.training.architectures.base import Architecture
from stylegan_invert.training.configs import Options
from stylegan_invert.training.encoder import train_encoder
from stylegan_invert.training.encoder_options import EncoderOptions

import simulated_cuda
from conftest import make_direction_network, make_network
from simulated_cuda import Simulated, WrongDevice, simulated_gpu
from support import NOTHING_DRAWN

PIXELS = [np.random.RandomState(i).randint(0, 256, [3, 16, 16]).astype(np.uint8) for i in range(2)]
FEW = {"layer_steps": 2, "layer": "b8.conv0"}
OF_METHOD = {  # options that make a method's run short, for those that need more than fewer steps
    "dense": FEW,
    "fast-dense": FEW,
    "encoder": {"steps": None},
    "pividori-code": {**FEW, "loss": "mse=1"},
    "pividori-paper": {**FEW, "loss": "sse=1"},
    "de": {"steps": None},
}


SLOW_MPS = ["cuda", pytest.param("mps", marks=pytest.mark.slow)]


@pytest.fixture(params=SLOW_MPS)
def device(request):
    with simulated_gpu(request.param) as found:
        yield found


@pytest.fixture
def cuda():
    with simulated_gpu() as found:
        yield found


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """The file of the Gaussian of V of `make_network`, so that each run need not sample it."""
    path = tmp_path_factory.mktemp("statistics") / "v.safetensors"
    generator = adapt(make_network().G)
    write_gaussian(path, generator.fit_gaussian(), generator)
    return path


def project(network, method, targets=PIXELS, **arguments):
    """Two targets in one pass, few steps, and the check that nothing of a result is on the GPU."""
    arguments = {"loss": "mse=1", "steps": 3, "batch": 2, **OF_METHOD.get(method, {}), **arguments}
    found = si.project(network, targets, method, **{k: v for k, v in arguments.items() if v is not None})
    for one in found:
        assert all(type(value) is torch.Tensor for value in one.code.tensors.values())
    return found


# ------------------------------------------------------------------------------------------------ that it can fail


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.cat([there, torch.ones(3)]),
        lambda there: torch.nn.Linear(3, 3)(there),
        lambda there: torch.rand(3, generator=torch.Generator(there.device)),
        lambda there: torch.rand(3, generator=torch.Generator(), device=there.device),
        lambda there: there.numpy(),
        lambda there: np.asarray(there),
        lambda there: torch.ones(5).add_(there.sum()),
        lambda there: torch.ones(3)[there.long()],
        lambda there: torch.matmul(there, torch.tensor(1.0).expand(3)),
        lambda there: torch.where(there > 0, there, torch.zeros(3)),
        lambda there: there.data_ptr(),
    ],
)
def test_a_tensor_on_the_wrong_device_is_found(device, mistake):
    with pytest.raises(WrongDevice):
        mistake(torch.ones(3, device=device))


def test_what_a_gpu_takes_is_taken(device):
    """Numbers without dimensions, indices on the CPU, copies; and gradients are those of a CPU."""
    x = torch.arange(6.0, device=device).reshape(2, 3).requires_grad_()
    y = (x * torch.tensor(2.0) + 1)[torch.tensor([1, 0])]
    y.square().sum().backward()
    assert type(x.grad) is Simulated and x.grad.device == device
    assert torch.equal(x.grad.cpu(), 4 * (2 * torch.arange(6.0).reshape(2, 3) + 1))
    kept = torch.zeros(2, 3)
    kept.copy_(x.detach())
    assert type(kept) is torch.Tensor and kept.sum() == 15
    module = torch.nn.Linear(3, 2).to(device.type)
    assert {p.device for p in module.parameters()} == {device} and module(x).device == device
    assert torch.Generator(device).device == device and torch.ones(1).device.type == "cpu"


def test_no_program_asks_mps_for_float64(statistics):
    """The Gaussian of V, the latents of a direction head and BigGAN's truncation are float64 elsewhere."""
    with simulated_gpu("mps") as device:
        with pytest.raises(TypeError, match="float64"):
            torch.ones(3, device=device).double()
        project(make_network().G.to(device), "wulff-w+", statistics=statistics)
        net = make_direction_network()
        net.G.to(device)
        project(net, "de")
        G = families()["biggan"]().eval().to(device)
        truncated = adapt(G).truncated(Code("z", {"z": torch.randn(2, 9, device=device)}), 0.5)
        assert truncated.tensors["z"].dtype == torch.float32


def test_a_mistake_in_the_program_is_found(cuda, monkeypatch):
    """A weight that was left on the CPU, and a start that was made there."""
    G = make_network().G.to(cuda)
    G.synthesis.b8.conv0.bias = torch.nn.Parameter(G.synthesis.b8.conv0.bias.cpu(), requires_grad=False)
    with pytest.raises(WrongDevice, match=r"cuda:0 .* cpu|cpu .* cuda:0"):
        project(G, "w")
    G = make_network().G.to(cuda)
    with pytest.raises(WrongDevice):
        adapt(G).render(Code("w", {"w": torch.zeros(1, 8)}))


def test_the_simulation_leaves_torch_as_it_was():
    before = torch.Tensor.to, torch.tensor, torch.Generator, torch.cuda.is_available
    with pytest.raises(ZeroDivisionError), simulated_gpu():
        raise ZeroDivisionError
    assert before == (torch.Tensor.to, torch.tensor, torch.Generator, torch.cuda.is_available)
    assert simulated_cuda.place.type == "cuda" and not torch.cuda.is_available()


# ------------------------------------------------------------------------------------------------ projection


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_runs(device, method, statistics, tmp_path):
    net = make_direction_network() if method == "de" else make_network()
    more = {"prior_weight": 0.0} if "fast" in method or method == "restore" else {}
    if method == "encoder":
        more["encoder"] = tmp_path / "encoder.safetensors"
        generator = adapt(net.G)
        encoder = Encoder(3, 16, entries(generator, "w+"), width=4)
        write_encoder(more["encoder"], encoder, About("w+", generator.sha256(), 0, 1, {}))
    if method.startswith(("v", "wulff")):
        more["statistics"] = statistics
    net.G.to(device)
    project(net if method == "de" else net.G, method, **more)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lbfgs-b"])
@pytest.mark.parametrize(
    "clip", ["standard", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "stochastic"))]
)
def test_every_optimiser_runs(cuda, optimizer, clip):
    if (optimizer, clip) == ("lbfgs-b", "stochastic"):
        pytest.skip("L-BFGS-B has bounds of its own")
    more = {"restarts": 2, "lambda_z": 0.1, "clip": clip, "optimizer": optimizer}
    project(make_network().G.to(cuda), "z", **more)


def test_a_projection_that_draws_nothing_has_the_numbers_of_a_cpu():
    """Noise maps begin with random numbers, which are others on a GPU; they alone move w by far more than rounding does."""
    with simulated_gpu() as there:

        def found(device, **settings):
            return si.project(
                make_network().G.to(device), PIXELS[0], "w+", loss="mse=1", **{**NOTHING_DRAWN, **settings}
            )

        here, other = found("cpu"), found(there)
        assert torch.equal(here.code.tensors["w"], other.code.tensors["w"]) and torch.equal(here.image, other.image)
        drawn = [found(device, noise_maps="optimised").code.tensors["w"] for device in ("cpu", there)]
        assert (drawn[0] - drawn[1]).abs().max() > 0.05 * drawn[0].abs().max()


def test_starts_callbacks_and_going_on(cuda, tmp_path):
    G = make_network().G.to(cuda)
    states = []
    first = project(G, "w+", keep_steps=True, save_noise=True, callback=lambda _, step: states.append(step.state()))
    first[0].save(tmp_path / "one")
    project(G, "w+", init=first)
    project(G, "w+", init=str(tmp_path / "one"))
    project(G, "w", batch="auto")
    project(G, "w", sequence=True, patience=2)
    projector = Projector(G, "w+", loss="mse=1", steps=4)
    shown = projector.medium.tensor(torch.from_numpy(np.stack(PIXELS)), cuda)
    projector.fit(shown, resume=states[0])
    project(G, "w", init="nearest")
    project(G, "w+", steps=1, optimizer="lbfgs", noise_maps="fixed", time_limit=60.0)


def test_the_prior_in_v(device, statistics):
    G = make_network().G.to(device)
    project(G, "w+", prior_weight=1e-4, statistics=statistics)
    generator = adapt(G)
    code = Code("w+", {"w": torch.randn(2, G.num_ws, 8, device=device)})
    for space in ("v+", "f:b8.conv0"):
        assert generator.convert(code, space).tensors["v" if space == "v+" else "h"].device == device
    generator.render(generator.compressed(code, 0.5))
    generator.render(generator.truncated(code, 0.5))


def test_classes(device):
    G = make_network(classes=2).G.to(device)
    project(G, "w", class_idx=1)
    project(G, "w", class_idx="search", targets=PIXELS[:1], steps=1)
    project(G, "z", class_idx="relaxed")


@pytest.mark.parametrize("loss", ["l1=1,mse=1", "lpips-squeeze=1", "features=1"])
def test_losses(device, loss):
    pixels = np.random.RandomState(0).randint(0, 256, [2, 3, 32, 32]).astype(np.uint8)
    project(make_network(resolution=32).G.to(device), "w", list(pixels), loss=loss, steps=2)


def test_observations(cuda, tmp_path):
    PIL.Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    G = make_network().G.to(cuda)
    project(G, "w", observe=f"mask:{tmp_path}/mask.png", compose=True, steps=2)
    project(
        G, "w", observe=["noise:.1,jpeg:50,blur:1,downsample:2,grey", lambda x: x.square()], steps=2, anchor_weight=0.1
    )


def families():
    sizes = {"channel_base": 64, "channel_max": 8}
    chain = [
        dcgan.Layer("transposed", 8, 8, 4, True),
        dcgan.Layer("transposed", 8, 8, 4, True),
        dcgan.Layer("transposed", 8, 3, 4, True, norm="none"),
    ]
    return {
        "stylegan1": lambda: stylegan1.Generator(8, 0, 8, 16, 3),
        "stylegan3": lambda: stylegan3.Generator(8, 0, 8, 16, 3, num_layers=6, num_fp16_res=2, **sizes),
        "progan": lambda: progan.Generator(16, 3, z_dim=8, fmap_base=64, fmap_max=8),
        "biggan": lambda: biggan.BigGAN(9, 3, 4, [16, 8, 4]),
        "dcgan": lambda: dcgan.DCGAN(chain),
    }


@pytest.mark.parametrize("name", list(families()))
def test_every_family(device, name):
    torch.manual_seed(0)
    G = families()[name]().eval().requires_grad_(False).to(device)
    some_class = {"class_idx": 1} if G.c_dim else {}
    project(G, "w" if hasattr(G, "mapping") else "z", **some_class)
    generator = adapt(G)
    z = torch.randn(2, G.z_dim, device=device)
    code = Code("z", {"z": z}, torch.eye(3, device=device)[:2] if G.c_dim else None)
    if hasattr(G, "mapping") or getattr(G, "truncates_z", False):
        assert generator.render(generator.truncated(code, 0.5)).device == device


@pytest.mark.parametrize("channels_last", [False, True])
def test_half_precision(cuda, channels_last):
    G = make_network(num_fp16_res=3, conv_clamp=256, fp16_channels_last=channels_last).G.to(cuda)
    project(G, "w")
    project(G, "dense", styles="optimised")


# ------------------------------------------------------------------------------------------------ training


@pytest.fixture
def folder(tmp_path):
    for i in range(8):
        path = tmp_path / "pictures" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(np.random.RandomState(i).randint(0, 256, [16, 16, 3]).astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def options(**changes):
    small = dict(z_dim=8, w_dim=8, channel_base=64, channel_max=8, batch=4, kimg=0.008, augment="ada", ada_interval=1)
    return Options.for_resolution(16, **{**small, "mixing": 0.9, "pl_weight": 2, "fp16": True, **changes})


def checked(folder):
    data = PictureSet(folder, 16)
    data.check()
    return data


def test_an_encoder_is_trained_in_rounds(cuda, folder, tmp_path):
    """With real pictures, and with a face embedder, which also measures the projection."""

    class Embedder(torch.nn.Module):
        def forward(self, x):
            return x[:, :, ::56, ::56].flatten(1)

    torch.jit.script(Embedder()).save(str(tmp_path / "faces.pt"))
    named = {"identity": tmp_path / "faces.pt"}
    G = make_network().G.to(cuda)
    settings = EncoderOptions(
        kimg=0.008, batch=4, batch_gpu=2, width=4, loss="mse=1,identity=0.1", iterative=True, passes=2
    )
    file = train_encoder(adapt(G), settings, tmp_path / "run", checked(folder), files=named, run_torchscript=True)
    result = si.project(G, PIXELS[0], "encoder", encoder=file, loss="mse", run_torchscript=True, **named)
    assert result.metrics["identity"] > 0


@pytest.mark.parametrize("head", ["none", "direction"])
def test_training_is_resumed(cuda, folder, tmp_path, head):
    run = {"tick_kimg": 0.004, "snapshot_ticks": 1, "metric_samples": 8 if head == "none" else 0}
    written = gan.train(checked(folder), options(head=head), tmp_path / "run", cuda, **run)
    assert si.load(written).info["fp16_resolutions"]
    longer = options(head=head, kimg=0.012)
    gan.train(checked(folder), longer, tmp_path / "run", cuda, resume=True, **run)
    trainer = gan.GANTrainer(longer, checked(folder), cuda)
    trainer.start_from(si.load(written))
    trainer.step()


def test_a_step_of_training_waits_for_nothing(cuda, folder):
    trainer = gan.GANTrainer(options(), checked(folder), cuda)
    trainer.step()  # constants are copied now
    for _ in range(4):  # the fourth has all four phases
        simulated_cuda.waits.clear()
        trainer.step()
        assert simulated_cuda.waits == []


# ------------------------------------------------------------------------------------------------ commands


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    monkeypatch.setattr(Architecture, "side", lambda self: 1)


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands(device, tmp_path, folder):
    network, target = tmp_path / "net.pkl", folder / "0.png"
    si.save(make_network(), network)
    there = ("--device", device.type)
    run(
        "project",
        "-n",
        network,
        "-t",
        target,
        "-t",
        folder / "1.png",
        "-o",
        tmp_path / "out",
        "--steps",
        2,
        "--loss",
        "mse=1",
        *there,
    )
    codes = [tmp_path / "out" / name for name in ("0", "1")]
    run("generate", "-n", network, "--seeds", "0-1", "--trunc", 0.7, "-o", tmp_path / "seeds", *there)
    run("generate", "-n", network, "--projected-w", codes[0] / "projected_w.npz", "-o", tmp_path / "again", *there)
    assert (tmp_path / "again" / "proj00.png").read_bytes() == (codes[0] / "proj.png").read_bytes()
    run("interpolate", "-n", network, *codes, "--space", "v+", "--frames", 2, "-o", tmp_path / "between", *there)
    run("stats", network, "-o", tmp_path / "stats", *there)
    run("generate", "-n", network, "--seeds", 0, "--compress", 0.8, "-o", tmp_path / "compressed", *there)
    run("convert", network, tmp_path / "net.safetensors")


def test_directions_and_edits(device, tmp_path):
    network, there = tmp_path / "net.pkl", ("--device", device.type, "-n", tmp_path / "net.pkl")
    si.save(make_network(), network)
    for way in ("pca", "sefa"):
        run("directions", way, "--components", "0-1", "-o", tmp_path / way, *there)
    directions = [tmp_path / way / f"{way}01.safetensors" for way in ("pca", "sefa")]
    for i, seeds in enumerate(("0-2", "3-5")):
        run("generate", "--seeds", seeds, "-o", tmp_path / f"g{i}", *there)
    groups = [tmp_path / f"g{i}" for i in (0, 1)]
    run("directions", "boundary", *groups, "-o", tmp_path / "b.safetensors", *there)
    run("directions", "keep", tmp_path / "b.safetensors", directions[0], "-o", tmp_path / "k.safetensors", *there)
    run("directions", "assessor", "--pictures", *groups, "--steps", 1, "-o", tmp_path / "a.safetensors", *there)
    moves = [x for file in (*directions, tmp_path / "a.safetensors") for x in ("--apply", f"{file}:1:0-2")]
    mix = ("--mix", "seed:3:fine", "--plus", groups[0], "--minus", groups[1])
    run("edit", "seed:1", *moves, *mix, "--frames", 2, "-o", tmp_path / "out" / "x", *there)
    run("nearest", tmp_path / "out" / "x", tmp_path / "out", *there)
    run("mix", "--row", "seed:1", "--col", tmp_path / "out" / "x", "-o", tmp_path / "mixed", *there)


def test_the_training_command(device, tmp_path, folder):
    sizes = ("--z-dim", 8, "--w-dim", 8, "--channel-base", 64, "--channel-max", 8, "--batch", 4)
    arguments = ("--data", folder, "--resolution", 16, "--kimg", 0.008, "--metric-samples", 0, "--aug", "ada", *sizes)
    run("train", *arguments, "-o", tmp_path / "run", "--device", device.type)
    run("train", "--resume", tmp_path / "run", "--kimg", 0.012, "--device", device.type)
