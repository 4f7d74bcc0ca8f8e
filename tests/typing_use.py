"""A user's code. A type checker reads it in `make test`, and none of it runs: what a user calls has types that help."""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch

import stylegan_invert as si
from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.losses import Distance
from stylegan_invert.projectors import Projector, Step


def open_and_look(path: Path) -> None:
    net = si.load(path)
    assert_type(net, si.NetworkFile)
    assert_type(net.G, torch.nn.Module)
    assert_type(net.D, torch.nn.Module | None)
    assert_type(net.sha256, str | None)
    assert_type(net["G"], torch.nn.Module | None)
    si.save(net, "copy.pkl")
    si.load("ffhq.pkl", assume={"activation": "relu"})
    assert_type(si.push_to_hub(net, "me/cats", "mit", private=True, metrics={"FID": 1.0}), str)
    assert_type(si.write_hub_folder("out", net.G, "me/cats", license="mit"), Path)


def project_one(net: si.NetworkFile, picture: str) -> Path:
    result = si.project(net.G, picture, "w+", steps=100, seed=303)
    assert_type(result, si.Projection)
    assert_type(result.code, si.Code)
    assert_type(result.code.tensors["w"], torch.Tensor)
    assert_type(result.image, torch.Tensor)
    assert_type(result.distance, torch.Tensor)
    assert_type(si.Projection.read("out"), si.Projection)
    return result.save("out", video=False)


def project_several(net: si.NetworkFile, pictures: list[str], arrays: tuple[np.ndarray, ...]) -> None:
    assert_type(si.project(net, pictures), list[si.Projection])
    assert_type(si.project(net, arrays, method="z"), list[si.Projection])
    assert_type(si.project(net, arrays[0]), si.Projection)
    assert_type(si.project(net, torch.zeros(3, 8, 8, dtype=torch.uint8)), si.Projection)


def project_many(net: si.NetworkFile, pictures: list[Path], distance: Distance) -> list[float]:
    def seen(target: int, step: Step) -> None:
        assert_type(step.code, si.Code)

    projector = Projector(net, "w", loss=distance, class_idx=3)
    assert_type(projector.generator, GeneratorAdapter)
    return [float(result.distance[-1]) for result in projector.project(pictures, callback=seen, batch="auto")]


def adopt(module: torch.nn.Module) -> torch.Tensor:
    net = si.adopt(module)
    assert_type(net, si.NetworkFile)
    try:
        code = si.project(module, "photo.jpg").code
    except si.ProjectionError as e:
        assert_type(str(e), str)
        raise
    return code.tensors["w"]


def mistakes(net: si.NetworkFile) -> None:
    """Each of these lines is an error. If it were none, mypy would say that the comment is unused."""
    si.lod("ffhq.pkl")  # type: ignore[attr-defined]
    si.load(5)  # type: ignore[arg-type]
    si.project(net, 5)  # type: ignore[call-overload]
    si.project(net, "photo.jpg").picture  # type: ignore[attr-defined]  # noqa: B018
    net.G.load(3)  # type: ignore[operator]
