"""A search for inputs that reach new code in a reader, guided by its coverage. It needs the package atheris.

    python tests/fuzz_atheris.py TARGET SECONDS [FOLDER]      search; what reaches new code is kept in FOLDER
    python tests/fuzz_atheris.py TARGET minimise FOLDER       the fewest and shortest of these inputs, in FOLDER-small

TARGET is "pickle" (the machine that reads pickles, and the tensors and modules made from them), "safetensors" (header and
description), "npz" (codes) or "json" (a run's options). FOLDER is out/fuzz/TARGET unless it is given; it is filled with small
valid files first. An input after which anything but the reader's own error is raised, or that takes five seconds or two
gigabytes, ends the search and is written to a file, whose name libFuzzer prints. `make fuzz-guided` runs it.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import atheris  # noqa: E402
import torch  # noqa: E402

with atheris.instrument_imports(include=["stylegan_invert"]):
    from stylegan_invert.errors import StyleganInvertError
    from stylegan_invert.files import plain
    from stylegan_invert.io.codes import read_codes
    from stylegan_invert.network_files import safetensors_file, table
    from stylegan_invert.network_files.machine.containers import read_records

FLAGS = ["-max_len=16384", "-timeout=5", "-rss_limit_mb=2048", "-print_final_stats=1"]


def pickle_machine(data: bytes) -> None:
    read_records(memoryview(data), "file", table.GLOBALS)


def safetensors(data: bytes) -> None:
    for unbuilt in safetensors_file.read(memoryview(data), "file").networks.values():
        if isinstance(unbuilt, table.Unbuilt):
            unbuilt.build()


def npz(data: bytes) -> None:
    SCRATCH.write_bytes(data)
    read_codes(SCRATCH)


def options(data: bytes) -> None:
    plain.parse_json(data, plain.table({"options": plain.anything}, more=plain.anything))


TARGETS = {"pickle": pickle_machine, "safetensors": safetensors, "npz": npz, "json": options}
SCRATCH = Path(tempfile.mkdtemp()) / "file"


def seeds(target: str, folder: Path) -> None:
    """Small valid files, and for pickles the fixed attacks that are short."""
    import fuzz_attacks
    import fuzz_readers

    readers = {"safetensors": ["safetensors"], "npz": ["codes", "packed codes"], "json": ["training options"]}
    readers["pickle"] = ["StyleGAN2", "DCGAN", "old state dict", "ProGAN of TensorFlow", "BigGAN, settings"]
    for number, name in enumerate(readers[target]):
        with tempfile.TemporaryDirectory() as made:
            (folder / f"seed-{number}").write_bytes(fuzz_readers.READERS[name].make(Path(made)).read_bytes())
    if target == "pickle":
        attacks = [*fuzz_attacks.executions(), *fuzz_attacks.exhaustions()]
        for number, data in enumerate(data for _, data in attacks if len(data) < 8192):
            (folder / f"attack-{number}").write_bytes(data)


def main() -> None:
    target, task = sys.argv[1], sys.argv[2]
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else HERE.parent / "out" / "fuzz" / target)
    folder.mkdir(parents=True, exist_ok=True)
    read = TARGETS[target]

    def one(data: bytes) -> None:
        try:
            read(data)
        except (StyleganInvertError, plain.Misfit):
            pass

    if task == "minimise":
        small = folder.with_name(f"{folder.name}-small")
        small.mkdir(exist_ok=True)
        arguments = ["-merge=1", str(small), str(folder)]
    else:
        if not any(folder.iterdir()):
            seeds(target, folder)
        arguments = [f"-max_total_time={int(task)}", str(folder)]
    atheris.Setup([sys.argv[0], *FLAGS, *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
