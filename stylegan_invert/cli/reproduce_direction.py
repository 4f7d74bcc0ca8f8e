"""``stylegan-invert reproduce direction``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    SEED,
    counting,
    data_option,
    device_option,
    hashes,
    loss_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    real_pictures,
    same_study,
    write_study,
)

FOUND = {
    "angle": ("angle, degrees", 1),
    "angle_of_z": ("that of z", 1),
    "lpips": ("LPIPS", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "seconds": ("seconds", 3),
}


def _ways(ctx: click.Context, param: click.Parameter, text: str) -> list[Any]:
    from ..studies.direction import STARTS, Way

    ways = []
    for part in text.split(","):
        start, *numbers = part.strip().split(":")
        if start not in STARTS or not 1 <= len(numbers) <= 2 or not all(n.isdigit() for n in numbers):
            raise click.BadParameter(
                f"{part!r}; expected START:STEPS or START:STEPS:FIRST, as de:50 or mean:1000:100; "
                f"starts are {', '.join(STARTS)}"
            )
        ways.append(Way(start, *map(int, numbers)))
    if len({way[:2] for way in ways}) < len(ways):
        raise click.BadParameter("two of them are the same")
    if ways[0] != Way("de", 0):
        raise click.BadParameter("the first is not de:0, what the discriminator finds in one pass")
    return ways


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=2), default=1000, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=400, show_default=True, help="Real pictures, at most.")
@loss_option("lpips-squeeze=1,mse=1")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--ways", default="de:0,de:50,mean:300,mean:1000:100,mean-near:300:100", show_default=True,
    metavar="START:STEPS[:FIRST],...", callback=_ways,
    help="The rows: where to start, how many steps of W, and for how many pictures of each set.",
)  # fmt: skip
@outdir_option
@device_option
@quiet_option
def command(
    network: str, data: str | None, pictures: tuple[int, int | None] | None, generated: int, real: int, loss: str, seed: int,
    ways: list[Any], outdir: str,
    device: str, quiet: bool,
) -> None:  # fmt: skip
    """Reconstruct generated and real pictures with a direction-embedding discriminator, as Cho's Figures 3 and 4.

    Each picture is found by the discriminator in one pass; by that and 50 steps of W, without exploration and with the
    network's own noise maps; by 300 steps of W from the mean as the official projector takes them; and, for the first 100
    of each set, by 1000 of these, and by 300 with the settings of the 50. DIR gets table.md, results.json, and a sheet per
    set: picture, one pass, 50 steps from there, 300 from the mean. A study that was stopped goes on when it is called again
    with the same options.

    \b
    stylegan-invert reproduce direction -n cats32-de --data cats64.zip --pictures 15300: -o out/direction
    """
    from ..analysis.sheets import sheet
    from ..errors import StyleganInvertError
    from ..generator import adapt
    from ..media.pictures import write_png
    from ..projectors.run import build_loss
    from ..studies import direction as study

    where = pick_device(device)
    net = open_network(network, quiet)
    D = net.direction
    if D is None or net.G.c_dim:
        lacks = (
            "it has classes; this study is for networks without"
            if D is not None
            else "it has no direction-embedding discriminator"
        )
        raise StyleganInvertError(
            f"{network}: {lacks}. Such networks are made by 'stylegan-invert train --head direction'"
        )
    generator, D = adapt(net.G.to(where)), D.to(where)
    made, z = study.generated(generator, generated, seed)
    sets = {"generated": made}
    if data is not None:
        sets["real"] = real_pictures(data, pictures, generator, real)
    folder = Path(outdir)
    distance, about_loss = build_loss(loss, None, None, where)
    settings = {
        "network": net.sha256, **about_loss, "data": hashes(sets), "seed": seed, "device": str(where),
        "ways": [list(way) for way in ways], "pictures": {name: len(p) for name, p in sets.items()},
    }  # fmt: skip
    same_study(folder, settings)
    with counting(study.work(sets, ways), "steps", quiet) as progress:
        study.reconstruct(generator, D, sets, folder / "parts", distance, ways, progress=progress)

    results: dict[str, Any] = {**settings, "sets": {}}
    D = D.to("cpu")
    for name, shown in sets.items():
        rows, columns = {}, [shown[: study.SHOWN]]
        for way in ways:
            found = study.gather(folder / "parts", name, way)
            row = {key: float(found[key].mean()) for key in ("lpips", "psnr", "ssim", "seconds")}
            if name == "generated" and not way.steps:
                known = study.angles(D, found["embedding"], z)
                row |= {"angle": known["found"], "angle_of_z": known["latents"]}
            limited = f" (first {len(found['lpips'])})" if way.first else ""
            rows[way.name + limited] = row
            if way.first is None:
                columns.append(found["images"][: study.SHOWN])
        if name == "generated":
            rows["random pairs"] = {"angle": known["random pairs"]}
            rows["best constant guess"] = {"angle": known["best constant"]}
        rows.setdefault("random pairs", {})["lpips"] = study.random_pairs_lpips(shown, distance)
        results["sets"][name] = rows
        write_png(folder / f"sheet-{name}.png", sheet(list(zip(*columns))))
    write_study(folder, results, table(results), quiet, " and a sheet of each set")


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = []
    for name, rows in results["sets"].items():
        lines += [
            f"| {results['pictures'][name]:,} {name} pictures | "
            + " | ".join(title for title, _ in FOUND.values())
            + " |"
        ]
        lines += ["|---" + "|---:" * len(FOUND) + "|"]
        for way, row in rows.items():
            cells = [f"{row[key]:.{digits}f}" if key in row else "" for key, (_, digits) in FOUND.items()]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
