"""What a checkpoint holds, as forms: the tensors of modules and optimisers, states of random generators, running means.

A trainer checks with them what `Trainer.load_state` is given, before it takes anything of it::

    form = plain.table({"modules": plain.table({"G": module_state(G)}), "random": random_state})
"""

from typing import Any

import torch

from ..files.plain import Form, Misfit, items, named, number, table, unchecked, whole
from ..files.saved import tensor

COUNT = whole(0, 10**12)  # of pictures, steps or ticks
SECONDS = number(0, 1e12)


def module_state(module: torch.nn.Module) -> Form:
    """The state dict of a module: exactly its tensors."""
    return table({name: tensor(value) for name, value in module.state_dict().items()})


def adam_state(optimiser: torch.optim.Adam) -> Form:
    """The state dict of an Adam optimiser. The rates in it are replaced by those of ``optimiser``.

    A parameter that never had a gradient has no entry.
    """
    own = optimiser.state_dict()["param_groups"]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    step = torch.zeros([])
    entries = [
        table({"step": tensor(step, low=0), "exp_avg": tensor(p), "exp_avg_sq": tensor(p, low=0)}) for p in parameters
    ]
    form = table({"state": table({}, dict(enumerate(entries)))}, {"param_groups": unchecked})

    def check(value: Any, place: str) -> dict[str, Any]:
        return {"state": form(value, place)["state"], "param_groups": own}

    return check


def random_state(value: Any, place: str) -> torch.Tensor:
    """A form: the state of torch's random generator on the CPU."""
    state = tensor(torch.get_rng_state())(value, place)
    try:
        torch.Generator().set_state(state)
    except RuntimeError:
        raise Misfit(f"{place} is no state of a random generator") from None
    return state


def running_means(value: Any, place: str) -> dict[str, tuple[float, int]]:
    """A form: the sums of `means.Statistics` as plain numbers, by name the sum and the number of added values."""
    pairs = named(items(unchecked, 2, 2), most=1000)(value, place)
    total, count = number(), whole(1)
    return {name: (total(a, f"{place}.{name}[0]"), count(b, f"{place}.{name}[1]")) for name, (a, b) in pairs.items()}
