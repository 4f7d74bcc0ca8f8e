"""Runs ``stylegan_invert.official_train`` where there is no CUDA: python tests/official_on_cpu.py REPO ARGUMENTS...

The training loops of NVIDIA's repositories choose CUDA by name, and were written for older versions of torch. The names are
replaced here in the module of the loop alone. stylegan2-ada-pytorch has no option for the number of channels, which is made
small here, too. Everything else is that of the checkout.
"""

import functools
import sys
import types
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stylegan_invert.cli import official_train


class Event:
    """An event of which the loop measures times."""

    def __init__(self, **kwargs):
        pass

    def record(self, stream):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 0.0


class Cuda:
    Event = Event

    def __getattr__(self, name):
        if name in ("current_stream", "max_memory_allocated", "max_memory_reserved", "reset_peak_memory_stats"):
            return lambda device=None: 0
        return getattr(torch.cuda, name)


class Torch(types.ModuleType):
    """The module torch as the loop sees it: every device is the CPU."""

    cuda = Cuda()

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def device(*args):
        return torch.device("cpu")


def missing(name, **contents):
    """Put a module in place of one that the checkout imports and that may not be installed here."""
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(contents)


def train_of(repo, original=official_train.train_of):
    train = original(repo)
    train.training_loop.torch = Torch("torch")
    if hasattr(train, "setup_training_loop_kwargs"):
        train.setup_training_loop_kwargs = functools.partial(small, train.setup_training_loop_kwargs)
    else:
        train.launch_training = functools.partial(with_floats, train.launch_training)
    return train


def with_floats(launch, c, **others):
    for kwargs in (c.G_opt_kwargs, c.D_opt_kwargs):
        kwargs.betas = [float(beta) for beta in kwargs.betas]  # newer versions of torch refuse 0 for 0.0
    launch(c=c, **others)


def small(make, **options):
    name, arguments = make(**options)
    for kwargs in (arguments.G_kwargs.synthesis_kwargs, arguments.D_kwargs):
        kwargs.update(channel_base=1024, channel_max=32)
    return name, arguments


process = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=0))
missing("psutil", Process=lambda pid=None: process)
missing("pkg_resources", parse_version=lambda text: tuple(int(n) for n in text.split("+")[0].split(".")[:2]))
torch.Tensor.pin_memory = lambda self, device=None: self
torch.utils.data.Sampler.__init__ = lambda self, *args: None  # older versions took the data set
official_train.train_of = train_of

if __name__ == "__main__":  # the processes that read pictures import this file, too
    official_train.command()
