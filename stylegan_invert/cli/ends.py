"""What commands that work on codes share: the network with its class, and codes as users name them."""

import os
from pathlib import Path
from typing import Any

import click

from .common import open_network, pick_device, sampling


def open_generator(
    network: str,
    device: str,
    quiet: bool,
    class_idx: int | str | None,
    z_prior: str | None = None,
    whitened: bool = False,
) -> tuple[Any, Any, Any]:
    """The network file of ``--network``, its adapter on the device, and the label (1, c_dim) of ``--class`` or None.

    Args:
        network, device, quiet, class_idx, z_prior: the values of these options.
        whitened: True fetches the Gaussian of V if the network has V. A network with classes then needs ``--class``.
    """
    from ..generator import adapt, class_label, with_prior
    from ..io.gaussian_file import with_gaussian

    where = pick_device(device)
    net = open_network(network, quiet)
    generator = with_prior(adapt(net.G.to(where)), z_prior)
    c = class_label(generator, class_idx) if class_idx is not None or whitened else None
    c = None if c is None else c.to(where)
    if whitened and "v" in generator.spaces:
        with sampling(quiet) as progress:
            generator = with_gaussian(generator, c, progress=progress)
    return net, generator, c


def code_of(generator: Any, end: str, c: Any) -> Any:
    """The code (N = 1) that a text names, on the generator's device, without noise maps.

    Args:
        generator: the adapter of the network.
        end: a file of codes, the folder of a result, or seed:N.
        c: the label (1, c_dim) of the class; None for a network without classes, or to keep that of a file.
    """
    from ..generator import Code, label
    from ..io.codes import check_codes, code_file, read_codes

    if end.startswith("seed:"):
        number = end.removeprefix("seed:")
        if not number.isdigit() or int(number) >= 2**32:
            raise click.UsageError(f"{end!r}; expected seed:N with a number.")
        c = label(1, None) if generator.c_dim == 1 and c is None else c
        if generator.c_dim and c is None:
            raise click.UsageError("This network has classes; choose that of seed:N with --class.")
        (shape,) = generator.code_shapes("z").values()
        return Code("z", {"z": generator.prior.of_seed(int(number), [1, *shape])}, c).to(generator.device)
    path = Path(os.path.expanduser(end))
    code = read_codes(code_file(path) if path.is_dir() else path)
    check_codes(code, generator, end)
    if len(code) != 1:
        raise click.ClickException(f"{end}: it holds {len(code)} codes; expected one")
    code = code.without_noise().to(generator.device)
    return code if c is None else Code(code.space, code.tensors, c)


def layers_of(text: str | None, generator: Any) -> list[int] | None:
    """The layers that ``--layers`` names; None without the option."""
    from ..editing.layer_names import parse_layers
    from ..generator.directions import layer_count

    return None if text is None else parse_layers(text, layer_count(generator))
