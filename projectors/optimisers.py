"""Adam and L-BFGS of torch.optim, made without torch.compile's machinery."""

import inspect

import torch
from torch.optim.optimizer import Optimizer


class _Uncompiled:
    """The methods of an optimiser without the wrappers that keep torch.compile away from them.

    The wrappers import torch._dynamo at the first call, which takes a second, and nothing here is compiled.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """torch.optim.Adam: the same arguments, numbers and state."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class LBFGS(_Uncompiled, torch.optim.LBFGS):
    """torch.optim.LBFGS: the same arguments, numbers and state."""
