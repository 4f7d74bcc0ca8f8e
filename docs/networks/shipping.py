"""Makes the file of a network that is shipped of a snapshot of its training."""

from pathlib import Path
from typing import Any

import stylegan_invert as si
from stylegan_invert.network_files import safetensors_file
from stylegan_invert.network_files.families.direction_head import direction_tensors


def ship(snapshot: str, file: Path, **about: Any) -> None:
    """Write the averaged generator, and the averaged discriminator with its head, in float16.

    Args:
        snapshot: the network file that training has written.
        file: the file to write.
        about: what is added to the file's description of its training set.
    """
    net = si.load(snapshot)
    head = net.direction.half()
    extra = {"direction": direction_tensors(head, head)}
    networks = {"G_ema": net.G.half(), "G": net.G, "D": head.trunk}
    training_set = {**net.training_set_kwargs, **about}
    safetensors_file.write(si.NetworkFile(networks, training_set_kwargs=training_set, extra=extra), file)
    file.chmod(0o644)
