"""The names of classes: from a dataset's file, through training, to --class and inspect."""
# Takes at most 6 CPU seconds.

import json

import numpy as np
import pytest
import torch
from PIL import Image

import stylegan_invert as si
from stylegan_invert.errors import TrainingError
from stylegan_invert.generator.adapt import label
from stylegan_invert.generator.class_names import are_class_names
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.training.architectures.biggan_options import BigGANOptions
from stylegan_invert.training.gan import GANTrainer

NAMES = ["t-shirt", "Stiefel, hoch", "bag"]


def folder_with(path, classes):
    for i in range(6):
        pixels = np.random.RandomState(i).randint(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{i}.png")
    labels = [[f"{i}.png", i % 3] for i in range(6)]
    (path / "dataset.json").write_text(json.dumps({"labels": labels, "classes": classes}))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of three named classes, as training writes it."""
    path = tmp_path_factory.mktemp("named")
    data = PictureSet(folder_with(path, NAMES), use_labels=True)
    options = BigGANOptions.for_resolution(8, c_dim=3, ch=2, z_dim=4, shared_dim=4, batch=2, standing=1)
    trainer = GANTrainer(options, data)
    trainer.architecture.write(trainer, path / "net.safetensors", trainer.architecture.about_training_set(data))
    return path / "net.safetensors"


def test_a_class_can_be_chosen_by_its_name(network, tmp_path, cli):
    net = si.load(network)
    assert net.class_names == NAMES == net.info["class_names"]
    for chosen in ("2", "bag"):
        status, _, _ = cli("generate", "-n", network, "--seeds", "3", "--class", chosen, "-o", tmp_path / chosen, "-q")
        assert status == 0
    pictures = [np.array(Image.open(next((tmp_path / chosen).glob("*.png")))) for chosen in ("2", "bag")]
    assert np.array_equal(*pictures)
    with pytest.raises(ValueError, match="class 'hat' was given; this network has the classes 0 ... 2, t-shirt"):
        si.project(net, torch.zeros([3, 8, 8], dtype=torch.uint8), method="z", steps=1, class_idx="hat")


def test_a_projection_records_the_number_of_a_named_class(network):
    result = si.project(
        si.load(network), np.zeros([3, 8, 8], np.uint8), method="z", steps=1, class_idx="bag", loss="mse"
    )
    assert result.code.c.tolist() == [[0, 0, 1]] and result.record["options"]["class"] == 2


def test_names_and_numbers_give_the_same_label():
    assert torch.equal(label(3, "bag", NAMES), label(3, 2, NAMES))
    with pytest.raises(ValueError, match="class 'bag' was given"):
        label(3, "bag")


@pytest.mark.parametrize(
    "classes",
    [
        ["a", "b"],
        ["a", "b", "b"],
        ["a", "b", 3],
        ["a", "b", "7"],
        ["a", "b", "search"],
        ["a", "b", ""],
        ["a", "b", "x" * 61],
        "abc",
    ],
)
def test_other_names_are_refused_in_a_dataset_and_ignored_in_a_network(tmp_path, classes):
    assert not are_class_names(classes, 3)
    with pytest.raises(
        TrainingError, match='dataset.json: "classes" does not fit; expected a list of 3 different names'
    ):
        PictureSet(folder_with(tmp_path, classes), use_labels=True)


def test_a_dataset_needs_no_names(tmp_path):
    assert PictureSet(folder_with(tmp_path, None), use_labels=True).class_names == ()
