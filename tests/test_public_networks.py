"""Networks of public state dicts whose files are not shipped: equal to the public code, with weights made from their names."""
# Takes at most 12 CPU seconds.

import zlib

import numpy as np
import pytest
import torch

from stylegan_invert.analysis.distribution import FIDFeatures, fid_distances
from stylegan_invert.networks.facenet import InceptionResnetV1
from stylegan_invert.networks.inception import FIDInception, resized_as_tensorflow
from stylegan_invert.networks.iresnet import DEPTHS, IResNet


def state_by_names(network):
    """A state dict whose numbers depend on the names alone, so that the public code can be given the same ones."""
    state = {}
    for name, value in network.state_dict().items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            x = np.zeros([])
        elif name.endswith("running_var"):
            x = np.exp(random.uniform(-0.1, 0.1, value.shape))
        elif value.ndim > 1:
            x = random.uniform(-1, 1, value.shape) * (3 / value[0].numel()) ** 0.5
        else:
            x = random.uniform(-0.1, 0.1, value.shape) + (1 if name.endswith("weight") else 0)
        state[name] = torch.from_numpy(x).to(value.dtype)
    return state


def picture(side):
    return torch.from_numpy(np.random.RandomState(0).uniform(-1, 1, [1, 3, side, side])).float()


def pixels():
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, [1, 3, 24, 40]).astype(np.uint8))


# The first six entries, and the standard deviation of all, of what the public code gives for these weights and inputs:
# facenet-pytorch 787da06, insightface 7fadd420 (recognition/arcface_torch), torch-fidelity 5e211a9.
EXPECTED = {
    "facenet": [0.05053303, -0.02130505, 0.03499589, 0.002587094, 0.002106886, -0.0659761, 0.04423639],
    "iresnet18": [2.560645, 7.367005, 0.1346686, -2.913561, 9.803715, 3.629539, 8.166484],
    "fid": [0, 0.05214765, 0.05497877, 0, 0.0048023, 0, 0.06530543],
}


def close(got, name):
    expected = torch.tensor(EXPECTED[name])
    found = torch.cat([got.flatten()[:6], got.std().reshape(1)]).float()
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())), found


@pytest.mark.parametrize(
    ("name", "make", "side"),
    [("facenet", InceptionResnetV1, 90), ("iresnet18", lambda: IResNet(DEPTHS["iresnet18"]), 112)],
)
def test_face_embedders_equal_the_public_code(name, make, side):
    network = make().eval()
    network.load_state_dict(state_by_names(network))
    with torch.no_grad():
        close(network(picture(side)), name)


def test_the_features_of_fid_equal_the_public_code(tmp_path):
    """From the pixels on: with the resizing of TensorFlow 1, and the classifier in the file, which is not needed."""
    with torch.device("meta"):
        network = FIDInception()
    torch.save(state_by_names(network) | {"fc.weight": torch.zeros([1008, 2048])}, tmp_path / "fid.pth")
    features = FIDFeatures(tmp_path / "fid.pth")
    close(features(pixels()), "fid")
    torch.save({"fc.weight": torch.zeros([1008, 2048])}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: .* is missing; expected the weights of FID's Inception"):
        FIDFeatures(tmp_path / "other.pth")


def test_resizing_is_that_of_tensorflow_1():
    """Against the definition, pixel by pixel: the place is i times the ratio of the sizes, and nothing is smoothed."""
    x = np.random.RandomState(0).uniform(size=[5, 7])
    expected = np.zeros([4, 4])
    for i in range(4):
        for j in range(4):
            (top, down), (left, right) = divmod(i * 5 / 4, 1), divmod(j * 7 / 4, 1)
            rows = [x[min(int(top) + k, 4)] for k in (0, 1)]
            one, two = ((1 - right) * row[int(left)] + right * row[min(int(left) + 1, 6)] for row in rows)
            expected[i, j] = (1 - down) * one + down * two
    got = resized_as_tensorflow(torch.from_numpy(x)[None, None].float(), 4)[0, 0]
    assert np.allclose(got.numpy(), expected, atol=1e-6)


def test_fid_is_reported_under_its_own_name():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn([40, 6], generator=random) + shift for shift in (0.0, 1.0))
    result = fid_distances(a, b)
    assert set(result) == {"fid", "kid", "kid_stderr"} and 4 < result["fid"] < 9
