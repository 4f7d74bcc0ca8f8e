"""Fixtures: small networks made here, and a feature network as a TorchScript file; what each test file may cost."""

import atexit
import os
import re
import shutil
import signal
import tempfile

import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.cli import main as cli_main
from stylegan_invert.network_files.families.direction_head import direction_tensors
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import build

from official import HERE, fill

# The reference operations, unless the environment says otherwise; test_native.py compares the native ones with them.
os.environ.setdefault("STYLEGAN_INVERT_OPS", "reference")
# No test may download, or use what a user has downloaded. Native operations are built once for all processes of a run: the
# first process makes the folder, and the workers that it starts inherit its environment.
os.environ["STYLEGAN_INVERT_CACHE"] = os.devnull
if os.environ["STYLEGAN_INVERT_OPS"] != "reference":
    if "STYLEGAN_INVERT_TESTS_CACHE" not in os.environ:
        os.environ["STYLEGAN_INVERT_TESTS_CACHE"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, os.environ["STYLEGAN_INVERT_TESTS_CACHE"], ignore_errors=True)
    os.environ["STYLEGAN_INVERT_CACHE"] = os.environ["STYLEGAN_INVERT_TESTS_CACHE"]
os.environ.pop("STYLEGAN_INVERT_VGG16", None)
# A shell starts what runs in the background with signals ignored. Tests send these signals, also to programs that they start.
for _number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def make_network(resolution=16, channels=3, classes=0, **synthesis):
    """A network file in memory: z and w of 8, at most 8 channels, weights of `official.fill`."""
    synthesis = {"channel_base": 64, "channel_max": 8, **synthesis}
    G = Generator(8, classes, 8, resolution, channels, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=synthesis)
    D = Discriminator(classes, resolution, channels, channel_base=64, channel_max=8)
    for i, network in enumerate((G, D)):
        fill(network.eval().requires_grad_(False), i)
    return NetworkFile({"G": G, "G_ema": G, "D": D})


def make_direction_network(resolution=16, z_dim=7, normalize_z=True, uniform_z=False):
    """A network file in memory whose discriminator embeds latents; weights from a fixed seed."""
    torch.manual_seed(0)
    sizes = dict(z_dim=z_dim, w_dim=8, channel_base=64, channel_max=8)
    sampling = dict(normalize_z=normalize_z, uniform_z=uniform_z)
    options = Options.for_resolution(resolution, head="direction", **sizes, **sampling)
    G, D = (network.eval().requires_grad_(False) for network in build(options))
    extra = {"direction": direction_tensors(D, D)}
    return NetworkFile({"G": G, "G_ema": G, "D": D.trunk}, extra=extra)


@pytest.fixture(scope="session")
def cats():
    """The shipped network."""
    return si.load("cats32")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """A network file of 8x8 pixels, under 100 kB."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.pkl"
    si.save(make_network(resolution=8), path)
    assert path.stat().st_size < 100_000
    return path


@pytest.fixture(scope="session")
def features():
    """A TorchScript feature network, called as the official vgg16.pt is."""
    return HERE / "golden" / "stub-features.pt"


@pytest.fixture
def cli(capsys):
    """Runs a command in this process: (exit status, stdout, stderr)."""

    def run(*args, command=cli_main.cli):
        with pytest.raises(SystemExit) as e:
            cli_main.run(command, [str(a) for a in args], "stylegan-invert")
        out, err = capsys.readouterr()
        return e.value.code, out, err

    return run


@pytest.fixture
def picture(tmp_path):
    """A picture file of 40x30 pixels."""
    path = tmp_path / "picture.png"
    ramp = torch.arange(40 * 30 * 3).reshape(30, 40, 3) % 251
    PIL.Image.fromarray(ramp.to(torch.uint8).numpy()).save(path)
    return path


# Each test file says in its first lines what it may cost, as "# Takes at most 20 CPU seconds." Processor time, not time on the
# clock, so that a busy machine changes nothing; that of programs which tests start is included.
COST = re.compile(r"^# Takes at most (\d+) CPU seconds", re.MULTILINE)
_spent = sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    global _spent
    report = yield
    before, _spent = _spent, sum(os.times()[:4])
    report.cpu_seconds = _spent - before
    return report


def pytest_terminal_summary(terminalreporter):
    """A line for each test file that cost more than it says, or says nothing."""
    spent = {}
    for report in (r for reports in terminalreporter.stats.values() for r in reports if hasattr(r, "cpu_seconds")):
        file = report.nodeid.partition("::")[0]
        spent[file] = spent.get(file, 0) + report.cpu_seconds
    if len(spent) > 1:
        terminalreporter.write_line(f"{sum(spent.values()):.0f} CPU seconds in {len(spent)} test files")
    for file, seconds in sorted(spent.items()):
        stated = COST.search((HERE.parent / file).read_text()[:2000])
        if stated is None:
            terminalreporter.write_line(
                f"warning: {file} does not say what it may cost; it took {seconds:.0f} CPU seconds"
            )
        elif seconds > int(stated[1]):
            terminalreporter.write_line(
                f"warning: {file} took {seconds:.0f} CPU seconds; it says that it takes at most {stated[1]}"
            )
