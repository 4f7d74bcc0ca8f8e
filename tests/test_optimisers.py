"""The optimisers of the projectors are those of torch.optim."""
# Takes at most 5 CPU seconds.

import pytest
import torch

from stylegan_invert.projectors import optimisers


@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {"lr": 0.1}), ("LBFGS", {"lr": 0.5, "max_iter": 3, "line_search_fn": "strong_wolfe"})],
)
def test_an_optimiser_steps_and_saves_as_that_of_torch(name, options):
    def descend(kind, steps, x, state=None):
        x = x.clone().requires_grad_(True)
        optimiser = kind([x], **options)
        if state is not None:
            optimiser.load_state_dict(state)

        def distance():
            optimiser.zero_grad(set_to_none=True)
            value = (x**4 - x.roll(1)).square().sum()
            value.backward()
            return value

        for _ in range(steps):
            if name == "Adam":
                distance()
                optimiser.step()
            else:
                optimiser.step(distance)
        return x.detach(), optimiser.state_dict()

    start = torch.linspace(-1, 1, 7)
    mine, theirs = getattr(optimisers, name), getattr(torch.optim, name)
    expected, _ = descend(theirs, 6, start)
    assert torch.equal(descend(mine, 6, start)[0], expected)
    assert torch.equal(descend(mine, 3, *descend(mine, 3, start))[0], expected)
