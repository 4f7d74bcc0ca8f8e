"""Times this project beside the official code, alternately, in one process: ratios of medians.

    python benchmarks/bench.py --official STYLEGAN2_ADA_PYTORCH [-o docs/benchmarks]

Needs no installation of this project, no network and no particular torch; without a checkout of the official code only this
project's own forms are timed. NAME.json and NAME.md are written, after the name of the processor or GPU.
"""

import contextlib
import copy
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stylegan_invert import ops
from stylegan_invert.losses.lpips import load_vgg_lpips
from stylegan_invert.networks.backbones import VGG16
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.ops import native
from stylegan_invert.projectors import Projector
from stylegan_invert.training.gan_losses import StyleGAN2Loss

PARTS = ("ops", "step", "share", "memory", "training", "where", "project")
FORMS = ("reference", "native")  # of this project; the official code is a third
BASES = {32: 1024, 64: 16384, 256: 16384, 1024: 32768}  # channel_base by resolution
Timed = dict[str, float]


def alternately(
    todo: dict[str, Callable[[], Any]], rounds: int, device: torch.device, processor: Timed | None = None
) -> Timed:
    """Median seconds of each, timed in turn, after a round that does not count.

    Args:
        processor: is given the median processor seconds of each, of all threads together. On a machine that computes other
            things at the same time they vary less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    busy: dict[str, list[float]] = {name: [] for name in todo}
    for i in range(rounds + 1):
        for name, function in todo.items():
            synchronize(device)
            start, start_busy = time.perf_counter(), time.process_time()
            function()
            synchronize(device)
            if i:
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - start_busy)
    if processor is not None:
        processor |= {name: statistics.median(values) for name, values in busy.items()}
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forms(function: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """The same with each form of this project's operations."""

    def using(form: str) -> Callable[[], Any]:
        def run() -> Any:
            with native.using(form):
                return function()

        return run

    return {form: using(form) for form in FORMS}


# ---------------------------------------------------------------------------------------------------------- the networks


def settings_of(resolution: int) -> dict[str, Any]:
    base = BASES.get(resolution, 32768)
    dims = 128 if resolution <= 32 else 512
    return dict(
        z_dim=dims, c_dim=0, w_dim=dims, img_resolution=resolution, img_channels=3, mapping_kwargs={"num_layers": 2},
        synthesis_kwargs={"channel_base": base, "channel_max": 96 if resolution <= 32 else 512},
    )  # fmt: skip


def generators(resolution: int, official: bool, device: torch.device) -> dict[str, torch.nn.Module]:
    """Frozen generators with the same weights: "ours", and "official" if it is there."""
    torch.manual_seed(0)
    ours = Generator(**settings_of(resolution)).eval().requires_grad_(False).to(device)
    found = {"ours": ours}
    if official:
        from training.networks import Generator as Official

        theirs = Official(**settings_of(resolution)).eval().requires_grad_(False).to(device)
        theirs.load_state_dict(ours.state_dict())
        found["official"] = theirs
    return found


class ScriptedVGG(torch.nn.Module):
    """A VGG16 that is called as the official ``vgg16.pt`` is."""

    def __init__(self, network: VGG16) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for layer in network.features:
            if isinstance(layer, torch.nn.Conv2d):
                plain = torch.nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
                plain.load_state_dict(layer.state_dict())
                layers += [plain, torch.nn.ReLU()]
            elif isinstance(layer, torch.nn.MaxPool2d):
                layers.append(layer)
        self.layers = torch.nn.Sequential(*layers).eval().requires_grad_(False)

    def forward(self, x: torch.Tensor, resize_images: bool = False, return_lpips: bool = True) -> torch.Tensor:
        found = []
        x = x / 127.5 - 1
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in (3, 8, 15, 22, 29):
                unit = x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
                found.append((unit / (unit.shape[2] * unit.shape[3]) ** 0.5).flatten(1))
        return torch.cat(found, dim=1) * 0.1


class Features(NamedTuple):
    """Files of one VGG16 with random weights."""

    script: Path  # both codes read it
    weights: Path  # as torchvision's are; only this project reads them, and convolves by itself


def feature_files(folder: str) -> Features:
    torch.manual_seed(0)
    network = VGG16()
    files = Features(Path(folder, "vgg16.pt"), Path(folder, "vgg16.pth"))
    torch.jit.script(ScriptedVGG(network)).save(str(files.script))
    torch.save(network.state_dict(), files.weights)
    return files


# ------------------------------------------------------------------------------------------------------------- the parts


def bench_ops(official: bool, device: torch.device, rounds: int) -> dict[str, Any]:
    """Forward and backward of each operation on one picture of 256x256 with 64 channels; on a GPU on 16 of them."""
    n = 16 if device.type == "cuda" else 1
    x = torch.randn([n, 64, 256, 256], device=device)
    b, noise = torch.randn([64], device=device), torch.randn([256, 256], device=device)
    weight, styles = torch.randn([64, 64, 3, 3], device=device), torch.randn([n, 64], device=device)
    f = ops.setup_filter([1, 3, 3, 1]).to(device)

    def both(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            leaf = x.requires_grad_(True)
            y = function(leaf)
            torch.autograd.grad(y, leaf, torch.ones_like(y))

        return run

    cases = {
        "bias_act": lambda x: ops.bias_act(x, b, "lrelu", clamp=256),
        "upfirdn2d, filter": lambda x: ops.upfirdn2d(x, f, padding=[2, 1, 2, 1]),
        "upfirdn2d, up 2": lambda x: ops.upsample2d(x[:, :, :128, :128], f),
        "upfirdn2d, down 2": lambda x: ops.downsample2d(x, f),
        "modulated_conv2d": lambda x: ops.modulated_conv2d(x, weight, styles, noise, padding=1, bias=b, act="lrelu"),
        "modulated_conv2d, up 2": lambda x: ops.modulated_conv2d(
            x[:, :, :128, :128], weight, styles, noise, 2, 1, f, flip_weight=False, bias=b, act="lrelu"
        ),
    }
    theirs: dict[str, Any] = {}
    if official:
        from torch_utils.ops import bias_act, upfirdn2d
        from training.networks import modulated_conv2d

        def convolved(x: torch.Tensor, **more: Any) -> torch.Tensor:
            y = modulated_conv2d(x, weight, styles, noise, padding=1, fused_modconv=True, **more)
            return bias_act.bias_act(y, b, act="lrelu")

        theirs = {
            "bias_act": lambda x: bias_act.bias_act(x, b, act="lrelu", clamp=256),
            "upfirdn2d, filter": lambda x: upfirdn2d.upfirdn2d(x, f, padding=[2, 1, 2, 1]),
            "upfirdn2d, up 2": lambda x: upfirdn2d.upsample2d(x[:, :, :128, :128], f),
            "upfirdn2d, down 2": lambda x: upfirdn2d.downsample2d(x, f),
            "modulated_conv2d": convolved,
            "modulated_conv2d, up 2": lambda x: convolved(
                x[:, :, :128, :128], up=2, resample_filter=f, flip_weight=False
            ),
        }
    rows = {}
    for name, case in cases.items():
        todo = forms(both(case)) | ({"official": both(theirs[name])} if name in theirs else {})
        rows[name] = row(alternately(todo, 5 * rounds, device))
    return rows


def bench_bandwidth(device: torch.device, rounds: int) -> dict[str, Any]:
    """Of a GPU: bytes read and written per second by the elementwise operations and the filter, as a share of `copy_`'s."""
    x = torch.randn([32, 64, 256, 256], device=device)  # 512 MiB
    y, b, f = torch.empty_like(x), torch.randn([64], device=device), ops.setup_filter([1, 3, 3, 1]).to(device)
    todo = {
        "copy_": lambda: y.copy_(x),
        "bias_act": lambda: ops.bias_act(x, b, "lrelu"),
        "pixel_norm": lambda: ops.normalize_2nd_moment(x),
        "upfirdn2d": lambda: ops.upfirdn2d(x, f, padding=[2, 1, 2, 1]),
    }
    with native.using("native"), torch.no_grad():
        seconds = alternately(todo, 10 * rounds, device)
    return {
        name: {"seconds": s, "share_of_copy": seconds["copy_"] / s, "gigabytes_per_second": 2 * x.nbytes / s / 1e9}
        for name, s in seconds.items()
    }


def bench_step(
    resolution: int, official: bool, device: torch.device, rounds: int, script: Path | None, own: Path | None = None,
    batch: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """One step of a projection: forward and backward to w and the noise maps, alone or with a VGG16 behind.

    Args:
        script: the official code's VGG16.
        own: this project's, if it is another file.
    """
    nets = generators(resolution, official, device)
    ws = torch.randn([batch, nets["ours"].num_ws, nets["ours"].w_dim], device=device)

    def pictures(x: torch.Tensor) -> torch.Tensor:
        x = (x + 1) * 127.5
        return torch.nn.functional.interpolate(x, size=(256, 256), mode="area") if x.shape[2] > 256 else x

    distance: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"ours": torch.sum, "official": torch.sum}
    if script is not None:
        with torch.no_grad():
            target = nets["ours"].synthesis(ws).clamp(-1, 1)
        theirs = torch.jit.load(str(script)).eval().to(device)
        goal = theirs(pictures(target), resize_images=False, return_lpips=True)
        ours = load_vgg_lpips(own or script, run_torchscript=True).to(device)
        prepared = ours.prepare(target)
        distance = {
            "ours": lambda x: ours(prepared, x).sum(),
            "official": lambda x: (theirs(pictures(x), resize_images=False, return_lpips=True) - goal).square().sum(),
        }

    def step(name: str) -> Callable[[], None]:
        net = nets[name]
        maps = [m for key, m in net.synthesis.named_buffers() if "noise_const" in key]

        def run() -> None:
            for m in maps:
                m.requires_grad_(True).grad = None
            leaf = ws.clone().requires_grad_(True)
            distance[name](net.synthesis(leaf, noise_mode="const")).backward()

        return run

    todo = forms(step("ours")) | ({"official": step("official")} if official else {})
    result = row(alternately(todo, rounds, device))
    if script is None:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, native.using("reference"):
            step("ours")()
        result["gigaflop"] = counter.get_total_flops() / 1e9
        rate = matrix_rate(device)
        result["matrix_product_gigaflop_per_second"] = rate
        result["share_of_matrix_product"] = result["gigaflop"] / result["native"] / rate
    return result


class ConvolutionTime(TorchDispatchMode):
    """While it is active, adds up the processor time of convolutions, forward and backward, in ``seconds``."""

    seconds = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if "conv" not in name and "winograd" not in name:
            return function(*args, **(kwargs or {}))
        start = time.process_time()
        result = function(*args, **(kwargs or {}))
        self.seconds += time.process_time() - start
        return result


def bench_share(resolution: int, rounds: int) -> dict[str, Any]:
    """Processor seconds of a step of the official search (method w, LPIPS with SqueezeNet) on a CPU, and the share of it that
    is not convolution: medians of steps."""
    G = generators(resolution, False, torch.device("cpu"))["ours"]
    target = torch.rand([1, 3, resolution, resolution]) * 2 - 1

    def steps(form: str, mode: Any) -> list[float]:
        """What a clock shows after each step."""
        seen: list[float] = []
        with native.using(form), mode or contextlib.nullcontext():
            projector = Projector(G, "w", loss="lpips-squeeze=1", steps=rounds + 2)
            projector.fit(target, callback=lambda _: seen.append(mode.seconds if mode else time.process_time()))
        return np.diff(seen)[1:].tolist()

    found: dict[str, Any] = {}
    for form in FORMS:
        found[form] = statistics.median(steps(form, None))
        found[f"{form}_not_convolution"] = 1 - statistics.median(steps(form, ConvolutionTime())) / found[form]
    return found


def bench_memory(resolution: int, official: str | None, device: torch.device) -> dict[str, Any]:
    """Bytes at the peak of a step without a feature network, for one target and for each more; each in a process of its own."""
    found = {}
    for form in (*FORMS, *(["official"] if official else [])):
        one, two = (_peak(form, resolution, official, device, count) for count in (1, 2))
        found[form] = {"one_target": one, "each_more": two - one}
    return found


def _peak(form: str, resolution: int, official: str | None, device: torch.device, count: int) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_step_in, (form, resolution, official, device, count, torch.get_num_threads()))


def _step_in(form: str, resolution: int, official: str | None, device: torch.device, count: int, threads: int) -> int:
    torch.set_num_threads(threads)
    if official:
        sys.path.insert(1, official)
    before = _resident()
    net = generators(resolution, form == "official", device)["official" if form == "official" else "ours"]
    maps = [m for key, m in net.synthesis.named_buffers() if "noise_const" in key]
    with native.using("reference" if form == "official" else form):
        for m in maps:
            m.requires_grad_(True)
        ws = torch.randn([count, net.num_ws, net.w_dim], device=device, requires_grad=True)
        net.synthesis(ws, noise_mode="const").sum().backward()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident() - before


def _resident() -> int:
    """Bytes that this process has held at most: what Linux counts from its start, which `getrusage` does not."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def matrix_rate(device: torch.device) -> float:
    """Gigaflop per second of a large float32 matrix product: the best of ten."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn([side, side], device=device)
    best = 0.0
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


TRAININGS = {  # the networks that are trained: resolution, channel_base and channel_max; batches of 32
    "training 32 (cats32-de's channels), a picture": (32, 1024, 96),
    "training 64 (cats64-de's channels), a picture": (64, 2048, 128),
    "training 64 (cats32-de's channels), a picture": (64, 1024, 96),
}
SHARES = {"Gmain": 1.0, "Dmain": 1.0, "Dreg": 1 / 16}  # how often a phase comes in a step


def training_phases(
    resolution: int, base: int, most: int, official: bool, device: torch.device
) -> dict[str, Callable[[], None]]:
    """The phases of a step with a batch of 32, of this project or of the official code, by the names in `SHARES`.

    Each has its optimiser, and Gmain the average of G. The direction head, which official code lacks, is not there, nor is
    path-length regularisation.
    """
    if official:
        from training.loss import StyleGAN2Loss as Loss
        from training.networks import Discriminator as MakeD
        from training.networks import Generator as MakeG
    else:
        Loss, MakeD, MakeG = StyleGAN2Loss, Discriminator, Generator
    batch, size = 32, dict(c_dim=0, img_resolution=resolution, img_channels=3)
    channels = dict(channel_base=base, channel_max=most)
    torch.manual_seed(0)
    G = MakeG(z_dim=128, w_dim=128, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=channels, **size).to(device)
    D, G_ema = MakeD(**channels, **size).to(device).train(), copy.deepcopy(G).eval().requires_grad_(False)
    loss = Loss(device, G.train().mapping, G.synthesis, D, style_mixing_prob=0, pl_weight=0, r1_gamma=0.05)
    adam = {net: torch.optim.Adam(net.parameters(), lr=0.0025, betas=(0.0, 0.99), eps=1e-8) for net in (G, D)}
    real, z = torch.randn([batch, 3, resolution, resolution], device=device), torch.randn([batch, 128], device=device)
    c = torch.zeros([batch, 0], device=device)

    def phase(which: str) -> Callable[[], None]:
        trained, other = (G, D) if which == "Gmain" else (D, G)

        def run() -> None:
            other.requires_grad_(False)
            trained.requires_grad_(True)
            adam[trained].zero_grad(set_to_none=True)
            more = {"sync": True} if official else {}
            loss.accumulate_gradients(phase=which, real_img=real, real_c=c, gen_z=z, gen_c=c, gain=1, **more)
            trained.requires_grad_(False)
            for p in trained.parameters():
                if p.grad is not None:
                    torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
            adam[trained].step()
            if which == "Gmain":
                for average, p in zip(G_ema.parameters(), G.parameters()):
                    average.copy_(p.lerp(average, 0.999))

        return run

    return {which: phase(which) for which in SHARES}


def bench_training(network: tuple[int, int, int], official: bool, device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds for a picture: both main phases, and R1 every 16 steps."""
    ours = training_phases(*network, False, device)
    theirs = training_phases(*network, True, device) if official else {}
    wall = dict.fromkeys((*FORMS, *(["official"] if official else [])), 0.0)
    cpu = dict(wall)
    for which, share in SHARES.items():
        todo = forms(ours[which]) | ({"official": theirs[which]} if official else {})
        processor: Timed = {}
        for name, seconds in alternately(todo, rounds, device, processor).items():
            wall[name] += seconds * share / 32
            cpu[name] += processor[name] * share / 32
    result = row(wall)
    return result | {"cpu": row(cpu)} if device.type == "cpu" else result


def bench_where(network: tuple[int, int, int]) -> dict[str, dict[str, float]]:
    """Milliseconds of the thread's processor time by operation, for each phase in the native form on the CPU.

    An operation's time is without that of the operations which it calls. Those below 1 % are left out.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    spent: dict[str, float] = {}
    inner = [0.0]

    def timed(name: str, function: Callable[[], Any]) -> Any:
        inner.append(0.0)
        start = time.thread_time()
        result = function()
        whole = time.thread_time() - start
        spent[name] = spent.get(name, 0.0) + whole - inner.pop()
        inner[-1] += whole
        return result

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return timed(str(function), lambda: function(*args, **(kwargs or {})))

    call, found = native._call, {}
    phases = training_phases(*network, False, torch.device("cpu"))
    native._call = lambda op, *arguments: timed(op, lambda: call(op, *arguments))
    try:
        with native.using("native"):
            for which, run in phases.items():
                run()
                spent.clear()
                with Watch():
                    run()
                total = sum(spent.values())
                found[which] = {k: v * 1000 for k, v in sorted(spent.items(), key=lambda i: -i[1]) if v > total / 100}
    finally:
        native._call = call
    return found


def bench_project(resolution: int, official: bool, device: torch.device, features: Path, steps: int) -> dict[str, Any]:
    """A whole run in W, and the time until the distance at which the official run ends."""
    nets = generators(resolution, official, device)
    pixels = (torch.rand([3, resolution // 8, resolution // 8]) * 255)[None]
    pixels = torch.nn.functional.interpolate(pixels, size=resolution, mode="bilinear")[0].to(torch.uint8)
    result: dict[str, Any] = {"steps": steps}
    reached = float("inf")
    if official:
        import dnnlib
        import projector

        dnnlib.util.open_url = lambda url: contextlib.nullcontext(open(features, "rb"))
        np.random.seed(0)
        torch.manual_seed(0)
        distances = []
        original = torch.Tensor.square

        def square(self: torch.Tensor) -> torch.Tensor:  # the official code says its distance to two decimals only
            found = original(self)
            if found.ndim == 2 and found.requires_grad:
                distances.append(float(found.detach().sum()))
            return found

        torch.Tensor.square = square
        synchronize(device)
        start = time.perf_counter()
        projector.project(nets["official"], pixels.to(device), num_steps=steps, device=device)
        synchronize(device)
        result["official"] = time.perf_counter() - start
        torch.Tensor.square = original
        reached = distances[-1]
    target = (pixels[None].to(device).float() / 127.5) - 1
    for form in FORMS:
        with native.using(form):
            seconds, seen = _projected(nets["ours"], target, features, steps, device)
        until = [at for at, distance in seen if distance <= reached * 1.01]
        result |= {form: seconds, f"{form}_until_official_distance": until[0] if until else None}
    return row(result)


def _projected(
    G: torch.nn.Module, target: torch.Tensor, features: Path, steps: int, device: torch.device
) -> tuple[float, list[tuple[float, float]]]:
    """Seconds of a run, and the distance after so many of them, for each step."""
    seen: list[tuple[float, float]] = []
    synchronize(device)
    start = time.perf_counter()
    projector = Projector(G, "w", loss=load_vgg_lpips(features, run_torchscript=True), steps=steps)
    projector.fit(target, callback=lambda step: seen.append((time.perf_counter() - start, float(step.distance[0]))))
    synchronize(device)
    return time.perf_counter() - start, seen


def row(seconds: dict[str, Any]) -> dict[str, Any]:
    """With the ratio, where the official code was timed, too."""
    result = dict(seconds)
    if "official" in seconds:
        result["ratio"] = seconds["official"] / seconds["native"]
    return result


# ----------------------------------------------------------------------------------------------------------- the command


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(results: dict[str, Any]) -> str:
    lines = [
        f"# {results['device']}, {results['threads']} threads, torch {results['torch']}",
        "",
        "Milliseconds, medians of runs in turn; ratio: official by native. Made by `benchmarks/bench.py`.",
        "",
        "| | official | reference | native | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, r in results["rows"].items():
        cells = [f"{r[k] * 1000:.4g}" if k in r else "" for k in ("official", "reference", "native")]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {r['ratio']:.2f} |"
            if "ratio" in r
            else f"| {name} | {' | '.join(cells)} | |"
        )
    shares = {k: r for k, r in results["rows"].items() if "share_of_matrix_product" in r}
    lines += [""] + [
        f"* {name}: {r['gigaflop']:.3g} Gflop, {r['share_of_matrix_product']:.0%} of a matrix product's "
        f"{r['matrix_product_gigaflop_per_second']:.0f} Gflop/s." for name, r in shares.items()
    ]  # fmt: skip
    lines += [
        f"* {name}: processor time official {r['cpu']['official'] * 1000:.4g} ms, native {r['cpu']['native'] * 1000:.4g} ms, "
        f"ratio {r['cpu']['ratio']:.2f}." for name, r in results["rows"].items() if "ratio" in r.get("cpu", {})
    ]  # fmt: skip
    lines += [
        f"* {name}: {r['gigabytes_per_second']:.0f} GB/s, {r['share_of_copy']:.0%} of copy_'s."
        for name, r in results.get("bandwidth", {}).items()
    ]
    lines += [
        f"* {name}: not convolution {r['reference_not_convolution']:.0%} (reference), {r['native_not_convolution']:.0%} (native)."
        for name, r in results["rows"].items() if "native_not_convolution" in r
    ]  # fmt: skip
    lines += [
        f"* Memory of a step at {resolution}, {form}: {m['one_target'] / 1e6:.0f} MB with one target, "
        f"{m['each_more'] / 1e6:.0f} MB for each more."
        for resolution, found in results.get("memory", {}).items() for form, m in found.items()
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--official", metavar="DIR", help="A checkout of stylegan2-ada-pytorch.", envvar="STYLEGAN2_ADA_REPO")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is one]")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU.  [default: torch's]")
@click.option("--only", default=",".join(PARTS), show_default=True, help="Which parts.")
@click.option("--resolutions", default="32,256,1024", show_default=True, help="Of the steps.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs that each median is of.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Targets of the batched step.")
@click.option("--steps", type=click.IntRange(min=2), default=30, show_default=True, help="Of the whole projections.")
@click.option("--outdir", "-o", metavar="DIR", help="Write NAME.json and NAME.md there.")
def main(
    official: str | None, device: str | None, threads: int | None, only: str, resolutions: str, rounds: int, batch: int, steps: int,
    outdir: str | None,
) -> None:  # fmt: skip
    """Time this project beside the official code."""
    if threads:
        torch.set_num_threads(threads)
    if official:
        sys.path.insert(1, official)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if where.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    there = official is not None
    parts = only.split(",")
    rows: dict[str, Any] = {}
    results: dict[str, Any] = {
        "device": device_name(where), "threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows,
    }  # fmt: skip

    def keep(name: str, found: dict[str, Any]) -> None:
        rows[name] = found
        print(name, json.dumps(found), flush=True)
        if outdir:
            stem = re.sub(r"[^A-Za-z0-9]+", "-", results["device"]).strip("-").lower()
            Path(outdir).mkdir(parents=True, exist_ok=True)
            Path(outdir, f"{stem}.json").write_text(json.dumps(results, indent=2) + "\n")
            Path(outdir, f"{stem}.md").write_text(table(results))

    with tempfile.TemporaryDirectory() as folder:
        features = feature_files(folder)
        if "ops" in parts:
            for name, found in bench_ops(there, where, rounds).items():
                keep(f"{name}, 64x256x256", found)
            if where.type == "cuda":
                results["bandwidth"] = bench_bandwidth(where, rounds)
        if "step" in parts:
            for resolution in map(int, resolutions.split(",")):
                for kind, files in (
                    ("", [None]),
                    (", VGG16 by TorchScript", [features.script]),
                    (", VGG16 of its own", features),
                ):
                    keep(f"step {resolution}{kind}", bench_step(resolution, there, where, rounds, *files))
            if where.type == "cuda":
                many = bench_step(256, False, where, rounds, *features, batch)
                if there:  # the official code takes one after another
                    many["official"] = batch * bench_step(256, True, where, rounds, *features)["official"]
                keep(f"{batch} targets of 256, VGG16 of its own", row(many))
        if "share" in parts and where.type == "cpu":
            for resolution in (32, 64, 256):
                keep(f"processor time of an official step {resolution}", bench_share(resolution, rounds))
        if "memory" in parts:
            found = {r: bench_memory(int(r), official, where) for r in resolutions.split(",")}
            results["memory"] = found
            print("memory", json.dumps(found), flush=True)
        if "training" in parts:
            for name, network in TRAININGS.items():
                keep(name, bench_training(network, there, where, rounds))
        if "where" in parts and where.type == "cpu":
            results["where"] = {name: bench_where(network) for name, network in TRAININGS.items()}
            print("where", json.dumps(results["where"]), flush=True)
        if "project" in parts:
            keep("project 256", bench_project(256, there, where, features.script, steps))


if __name__ == "__main__":
    main()
