"""Names of ranges of layers, as users write them: "coarse", "middle,8", "0-6"."""

import re

NAMES = ("coarse", "middle", "fine")
OF_NAMED = 4  # coarse and middle have so many layers each, where there are more than twice as many


def named_layers(count: int) -> dict[str, range]:
    """The layers of a network with ``count`` of them, by name.

    Coarse are layers 0 to 3, middle 4 to 7, and fine all others: 4² to 8², 16² to 32² and from 64² on in StyleGAN. A network
    with fewer than ten layers is divided into three parts.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2019), figure 3.
    """
    first, second = (OF_NAMED, 2 * OF_NAMED) if count > 2 * OF_NAMED + 1 else (count // 3, 2 * count // 3)
    return dict(zip(NAMES, (range(first), range(first, second), range(second, count))))


def parse_layers(text: str, count: int) -> list[int]:
    """The layers, from 0, that a text names: names of `named_layers`, "all", numbers and ranges, separated by commas.

    Args:
        text: such as "coarse", "0-6" (with layer 6, as official style_mixing.py has it), or "middle,8,9".
        count: the number of layers of the network.

    Raises:
        ValueError: a name or number is not one of this network's layers.
    """
    if count < 2:
        raise ValueError(f"the layers {text!r} were named; this network has one latent for all its layers")
    names = named_layers(count)
    layers: set[int] = set()
    for part in text.split(","):
        part = part.strip()
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if part in names or part == "all":
            layers.update(names.get(part, range(count)))
        elif match and int(match[1]) <= int(match[2] or match[1]) < count:
            layers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        else:
            raise ValueError(
                f"the layers {part!r} are unknown; expected {', '.join(names)}, all, or numbers from 0 to {count - 1} as "
                "in 0-6,8"
            )
    return sorted(layers)
