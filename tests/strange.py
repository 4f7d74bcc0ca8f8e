"""Networks unlike those that the fast search was tuned on, and what it does there beside the official search.

    PYTHONPATH=. python tests/strange.py [NAME ...]     prints the table of docs/reproduce/speed.md

All weights are random, so pictures are noise of the network's own kind.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.network_files.file import NetworkFile, load
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.projectors import Projector

from official import fill


def stylegan2(resolution=32, w_dim=8, classes=0, layers=2, **synthesis) -> NetworkFile:
    synthesis = {"channel_base": 128, "channel_max": 16, **synthesis}
    mapping = {"num_layers": layers}
    G = Generator(8, classes, w_dim, resolution, 3, mapping_kwargs=mapping, synthesis_kwargs=synthesis)
    fill(G.eval().requires_grad_(False), 3)
    return NetworkFile({"G": G, "G_ema": G})


def without_v() -> NetworkFile:
    net = stylegan2()
    net.G.mapping.fc1.activation = "swish"
    return net


def odd_channels() -> NetworkFile:
    """Numbers of channels that no formula gives: each resolution of its own."""
    return stylegan2(channel_base=7 * 32, channel_max=23)


def loud() -> NetworkFile:
    """Weights ten times the usual, so that pictures leave their range by far."""
    net = stylegan2()
    with torch.no_grad():
        net.G.synthesis.b32.torgb.weight.mul_(10)
    return net


def dead() -> NetworkFile:
    """A network whose pictures are all alike."""
    net = stylegan2()
    with torch.no_grad():
        for name, parameter in net.G.synthesis.named_parameters():
            if ".torgb." in name:
                parameter.zero_()
    return net


def family(name: str) -> Callable[[], NetworkFile]:
    def made() -> NetworkFile:
        import test_families

        with tempfile.TemporaryDirectory() as folder:
            return load(test_families.FAMILIES[name](Path(folder)))

    return made


NETWORKS: dict[str, Callable[[], NetworkFile]] = {
    "skip, 32 pixels": stylegan2,
    "orig": lambda: stylegan2(architecture="orig"),
    "resnet": lambda: stylegan2(architecture="resnet"),
    "three classes": lambda: stylegan2(classes=3),
    "odd channels": odd_channels,
    "w of 2": lambda: stylegan2(w_dim=2),
    "eight mapping layers": lambda: stylegan2(layers=8),
    "without V": without_v,
    "loud": loud,
    "pictures all alike": dead,
    "8 pixels": lambda: stylegan2(resolution=8),
    "StyleGAN1": family("stylegan1"),
    "StyleGAN3": family("stylegan3"),
    "ProGAN": family("progan"),
    "BigGAN": family("biggan"),
}


def targets(generator: Any, c: torch.Tensor | None) -> torch.Tensor:
    """A picture that the network made, and a smooth one that it did not: (2, C, H, W)."""
    random = torch.Generator().manual_seed(1)
    (shape,) = generator.code_shapes("z").values()
    z = generator.prior.sample([1, *shape], random)
    with torch.no_grad():
        made = generator.render(Code("z", {"z": z}, c)).clamp(-1, 1)
    small = torch.rand([1, made.shape[1], 4, 4], generator=random) * 1.6 - 0.8
    return torch.cat([made, torch.nn.functional.interpolate(small, size=made.shape[-1], mode="bilinear")])


def steps_within(seconds: float, net: NetworkFile, arguments: dict[str, Any], target: torch.Tensor) -> int:
    """The steps of a projector that fit into so many processor seconds; at least 5."""
    projector = Projector(net, steps=5, **arguments)
    projector.fit(target)  # set-up
    began = time.process_time()
    projector.fit(target)
    return max(5, round(5 * seconds / (time.process_time() - began)))


def compare(net: NetworkFile, steps: int | None = None) -> dict[str, Any]:
    """The default beside the official search, or beside that for z, on two targets.

    Args:
        net: the network.
        steps: of the default; the other gets a step for each of its evaluations, which takes it longer. None takes the
            default's own, and gives the other as many steps as fit into its processor time.

    Returns:
        "method", the default's; for each target, in lists: "evaluations"; "fast" and "other", the final distance by the
        default's own loss, without fitted noise maps; and "steps", those of the other.
    """
    generator = adapt(net.G)
    some = {"class_idx": 1} if generator.c_dim else {}
    c = label(generator.c_dim, 1) if generator.c_dim else None
    projector = Projector(net, **some, **({} if steps is None else {"steps": steps}))
    shown = targets(generator, c)
    projector.fit(shown[:1])  # set-up
    found: dict[str, Any] = {"method": projector.name, "evaluations": [], "fast": [], "other": [], "steps": []}
    other = {"method": "w"} if "w" in generator.spaces else {"method": "z"}
    for target in shown.split(1):
        prepared = projector.distance.prepare(target)

        def reached(code: Code, prepared: Any = prepared) -> float:
            with torch.no_grad():
                return float(projector.distance(prepared, generator.render(code.without_noise())))

        began = time.process_time()
        fit = projector.fit(target)
        took = time.process_time() - began
        one = {**other, **some, "loss": copy.copy(projector.distance)}
        count = fit.notes["evaluations"][0] if steps is not None else steps_within(took, net, one, target)
        found["evaluations"].append(fit.notes["evaluations"][0])
        found["fast"].append(reached(fit.code))
        found["other"].append(reached(Projector(net, steps=count, **one).fit(target).code))
        found["steps"].append(count)
    return found


def main() -> None:
    torch.set_num_threads(1)
    print("| network | default | generated: it, the other | smooth: it, the other | evaluations | steps of the other |")
    print("|---|---|---:|---:|---:|---:|")
    for name in sys.argv[1:] or NETWORKS:
        r = compare(NETWORKS[name]())
        pairs = [f"{fast:.4f}, {other:.4f}" for fast, other in zip(r["fast"], r["other"])]
        counts = [" and ".join(map(str, r[key])) for key in ("evaluations", "steps")]
        print(f"| {name} | {r['method']} | {' | '.join([*pairs, *counts])} |", flush=True)


if __name__ == "__main__":
    main()
