"""Segments from self-attention, against straight loops; the measures that compare segmentations; the command."""
# Takes at most 5 CPU seconds.

import itertools
import tracemalloc

import numpy as np
import PIL.Image
import pytest
import scipy.cluster.hierarchy
import test_biggan
import torch

from stylegan_invert.analysis import segmentation as seg
from stylegan_invert.generator import Code, adapt
from stylegan_invert.media.pictures import read_png
from stylegan_invert.networks.biggan import BigGAN, BigGANDeep

from support import assert_close

CLASSES = 3


def network(kind=BigGAN, attention=(0,), channels=(8, 16, 8)):
    """A BigGAN or BigGAN-deep of 16x16 with random weights, whose attention differs clearly from pixel to pixel."""
    torch.manual_seed(0)
    more = {"z_dim": 6, "upsample": [True, True]} if kind is BigGANDeep else {"z_dim": 6}
    if kind is BigGANDeep:
        channels = sorted(channels, reverse=True)
    net = kind(c_dim=CLASSES, shared_dim=4, channels=channels, attention=list(attention), **more)
    for name, value in net.named_parameters():
        if "theta" in name or "phi" in name:
            value.data *= 4
    return adapt(net.eval().requires_grad_(False))


def displaced(generator, space="f:linear", by=0.5, n=1):
    """Codes at a layer with a displacement, as the search of --method dense gives them."""
    z = torch.randn([n, 6], generator=torch.Generator().manual_seed(1))
    code = generator.convert(Code("z", {"z": z}, torch.eye(CLASSES)[:1].expand(n, -1)), space)
    h = code.tensors["h"]
    moved = h + by * torch.randn(h.shape, generator=torch.Generator().manual_seed(2))
    return Code(space, {**code.tensors, "h": moved}, code.c)


def loops(net, x):
    """The attention map of an input (C, H, W) in straight loops."""
    theta = net.theta.weight[:, :, 0, 0].double().numpy()
    phi = net.phi.weight[:, :, 0, 0].double().numpy()
    _, height, width = x.shape
    keys = []
    for y, left in itertools.product(range(0, height, 2), range(0, width, 2)):
        around = [phi @ x[:, y + dy, left + dx] for dy in (0, 1) for dx in (0, 1)]
        keys.append(np.max(around, axis=0))
    rows = []
    for y, left in itertools.product(range(height), range(width)):
        numbers = np.exp([theta @ x[:, y, left] @ key for key in keys])
        rows.append(numbers / numbers.sum())
    return np.array(rows)


@pytest.mark.parametrize("kind", [BigGAN, BigGANDeep])
def test_the_attention_of_a_displaced_code_equals_straight_loops(kind):
    generator = network(kind)
    code = displaced(generator, n=2)
    assert dict(generator.attention_shapes()) == {"attention.0": (8, 8, 4, 4)}
    got = generator.attention(code, "attention.0").numpy()
    # The blocks before it are called by hand with the displaced output of the dense layer.
    net = generator.network
    z, y = net._inputs(code.tensors["z"], code.c)
    condition = torch.cat([y, z if kind is BigGANDeep else z.chunk(3, dim=1)[1]], dim=1)
    x = net.blocks[0](code.tensors["h"], condition, 1.0).double().numpy()
    for i in range(2):
        assert_close("attention", got[i], loops(net.attention["0"], x[i]), 1e-4)
    plain = generator.convert(Code("z", {"z": code.tensors["z"]}, code.c), "f:linear")
    assert not np.allclose(got, generator.attention(plain, "attention.0").numpy(), atol=1e-3)
    assert torch.equal(generator.render(code), generator.render(code))  # no hook stays behind


def joined_by_hand(d, count):
    """Average linkage of a square matrix of dissimilarities, in straight loops, until ``count`` clusters are left."""
    clusters = [[i] for i in range(len(d))]
    while len(clusters) > count:
        pairs = itertools.combinations(range(len(clusters)), 2)
        a, b = min(pairs, key=lambda pair: d[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[a] += clusters.pop(b)
    labels = np.zeros(len(d), int)
    for members in clusters:
        labels[members] = min(members)
    return np.unique(labels, return_inverse=True)[1]  # numbered by the first member


def test_segments_equal_average_linkage_by_hand():
    random = np.random.RandomState(0)
    shape = (4, 6, 2, 3)
    attention = random.dirichlet(np.full(6, 0.3), 24)
    large = np.zeros([24, 24])
    for i, (y, x) in itertools.product(range(24), itertools.product(range(4), range(6))):
        large[i, y * 6 + x] = attention[i, (y // 2) * 3 + x // 2]
    square = 1 - (large + large.T) / 2
    np.fill_diagonal(square, 0)
    condensed = seg.dissimilarity(attention, shape)
    assert np.allclose(condensed, square[np.triu_indices(24, 1)], atol=1e-15)
    merges = scipy.cluster.hierarchy.linkage(condensed, "average")
    for count in (2, 5, 11):
        assert np.array_equal(seg.cut(merges, count), joined_by_hand(square, count))


def test_every_number_of_segments_is_exact_and_they_are_nested():
    generator = network()
    counts = [1, 3, 8, 20, 64]
    maps = seg.segment(generator, displaced(generator), counts)
    for count, labels in zip(counts, maps):
        assert labels.shape == (8, 8)
        assert np.array_equal(np.unique(labels, return_index=True)[0], np.arange(count))
        assert (np.diff(np.unique(labels, return_index=True)[1]) > 0).all()  # numbered as they occur
    for coarse, fine in itertools.pairwise(maps):
        assert len(set(zip(fine.ravel(), coarse.ravel()))) == fine.max() + 1
    # Where all distances are equal, a limit on the distance would give one cluster or all.
    even = scipy.cluster.hierarchy.linkage(seg.dissimilarity(np.full([64, 16], 1 / 16), (8, 8, 4, 4)), "average")
    for count in counts:
        assert len(np.unique(seg.cut(even, count))) == count


def test_the_square_matrix_is_never_formed():
    attention = np.random.RandomState(0).dirichlet(np.ones(64), 1024)
    tracemalloc.start()
    try:
        condensed = seg.dissimilarity(attention, (32, 32, 8, 8))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert condensed.nbytes == 1024 * 1023 * 4 and most < 1.1 * condensed.nbytes


def test_of_several_attentions_the_largest_is_used():
    generator = network(attention=(-1, 0), channels=(16, 16, 8))
    assert list(generator.attention_shapes()) == ["attention.-1", "attention.0"]
    assert seg.attention_name(generator) == "attention.0"
    assert seg.segment(generator, displaced(generator), [2], "attention.-1")[0].shape == (4, 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "attention.7"}, "there is no attention 'attention.7'; this network has attention.0"),
        ({"clusters": [65]}, "65 segments were asked for; the attention attention.0 gives 1 to 64"),
        ({"clusters": [0]}, "0 segments"),
        ({"layer": "blocks.1"}, "the code lies at the layer 'blocks.1', on which the attention 'attention.0' does not"),
        ({"layer": "attention.0"}, "on which the attention 'attention.0' does not depend"),
        ({"n": 2}, "2 codes were given; expected one"),
    ],
)
def test_what_is_refused(change, message):
    generator = network()
    code = displaced(generator, f"f:{change.get('layer', 'linear')}", n=change.get("n", 1))
    with pytest.raises(ValueError, match=message):
        seg.segment(generator, code, change.get("clusters", [2]), change.get("name"))


def test_a_map_that_is_too_large_is_refused_before_anything_is_computed(monkeypatch):
    generator = network()
    generator.network.attention_shapes = {"attention.0": (256, 256, 128, 128)}
    monkeypatch.setattr(generator, "attention", lambda *_: pytest.fail("it was computed"))
    with pytest.raises(ValueError, match="65,536 pixels; clustering takes at most 16,384"):
        seg.segment(generator, displaced(generator), [2])


def test_colours_and_overlay():
    labels = np.array([[0, 1], [1, 1]])
    pixels = np.random.RandomState(0).randint(0, 256, [3, 4, 4]).astype(np.uint8)
    got = seg.mean_colours(labels, pixels)
    first = pixels[:, :2, :2].reshape(3, -1).mean(axis=1).round()
    second = (pixels.sum(axis=(1, 2)) - pixels[:, :2, :2].sum(axis=(1, 2), dtype=int)) / 12
    assert got.dtype == np.uint8 and np.array_equal(got[:, 0, 0], first) and np.array_equal(got[:, 1, 1], first)
    assert np.array_equal(got[:, 3, 3], second.round()) and np.array_equal(got[:, 0, 2], second.round())
    grey = seg.overlay(np.arange(4).reshape(2, 2), np.zeros([1, 4, 4], np.uint8))
    assert grey.shape == (3, 4, 4) and len(np.unique(grey.reshape(3, -1), axis=1).T) == 4
    assert np.array_equal(seg.overlay(labels * 0, pixels)[0], ((pixels[0] + 255.0) / 2).round())


def test_boundary_agreement():
    mask = np.zeros([8, 8], bool)
    mask[:, 4:] = True
    halves = mask.astype(int)
    assert seg.boundary_agreement(halves, mask, 0) == {"recall": 1, "precision": 1, "f": 1}
    assert seg.boundary_agreement(halves[::4, ::4], mask, 0)["f"] == 1  # a label map is enlarged
    beside = np.roll(halves, 1, axis=1)
    beside[:, 0] = 0
    assert seg.boundary_agreement(beside, mask, 0)["f"] == 0 and seg.boundary_agreement(beside, mask, 1)["f"] == 1
    quarters = 2 * halves + halves.T  # the boundary of the mask, and one across: 8 + 8 pixels, of which they share one
    got = seg.boundary_agreement(quarters, mask, 0)
    assert got["recall"] == 1 and got["precision"] == pytest.approx(8 / 15)
    assert got["f"] == pytest.approx(2 * (8 / 15) / (1 + 8 / 15))
    assert seg.boundary_agreement(halves * 0, mask) == {"recall": 0, "precision": 0, "f": 0}
    with pytest.raises(ValueError, match="the mask has no boundary"):
        seg.boundary_agreement(halves, mask | True)


def test_stability_under_a_shift():
    random = np.random.RandomState(0)
    labels = random.randint(0, 3, [9, 7])
    for down, right in [(1, 0), (0, -1), (-2, 3)]:
        moved = 7 - np.roll(labels, (down, right), axis=(0, 1))  # other numbers of the same segments
        assert seg.stability(labels, moved, down, right) == 1
        assert seg.stability(labels, moved, -down, -right) < 0.3
    # The adjusted Rand index by pairs: agreeing pairs beyond those expected by chance.
    a, b = random.randint(0, 3, 20), random.randint(0, 4, 20)
    pairs = list(itertools.combinations(range(20), 2))
    in_a, in_b = ([x[i] == x[j] for i, j in pairs] for x in (a, b))
    both, expected = sum(map(np.logical_and, in_a, in_b)), sum(in_a) * sum(in_b) / len(pairs)
    by_hand = (both - expected) / ((sum(in_a) + sum(in_b)) / 2 - expected)
    assert seg.adjusted_rand(a, b) == pytest.approx(by_hand)
    assert seg.adjusted_rand(np.zeros(4, int), np.ones(4, int)) == 1


def test_segments_by_colour():
    pixels = np.zeros([3, 6, 6], np.uint8)
    pixels[:, :, 3:], pixels[0, 4:, :] = 200, 90
    labels = seg.colour_segments(pixels, 4)
    colours = {tuple(c): {int(x) for x in labels[(pixels == np.array(c)[:, None, None]).all(axis=0)]} for c in
               np.unique(pixels.reshape(3, -1), axis=1).T}  # fmt: skip
    assert len(colours) == 4 and sorted(map(tuple, colours.values())) == [(0,), (1,), (2,), (3,)]
    assert np.array_equal(labels, seg.colour_segments(pixels, 4))
    assert seg.colour_segments(pixels, 40).max() == 3  # no more segments than colours


def test_the_command_segments_a_result_of_dense(cli, tmp_path):
    torch.save(test_biggan.plain(), tmp_path / "G.pth")
    PIL.Image.new("RGB", (16, 16), (200, 90, 30)).save(tmp_path / "target.png")
    with_network = ["-n", tmp_path / "G.pth", "-q"]
    short = ["--class", 1, "--method", "dense", "--steps", 1, "--layer-steps", 2, "--loss", "mse=1"]
    assert cli("project", "-t", tmp_path / "target.png", *with_network, *short, "-o", tmp_path / "found")[0] == 0
    assert cli("segment", tmp_path / "found", *with_network, "-o", tmp_path / "out", "--clusters", "2,5")[0] == 0
    out = tmp_path / "out"
    kinds = [f"{kind}-{k}.png" for kind in ("colours", "labels", "overlay") for k in (2, 5)]
    assert sorted(p.name for p in out.iterdir()) == sorted([*kinds, "picture.png", "sheet.png"])
    picture, labels = read_png(out / "picture.png"), read_png(out / "labels-5.png")
    assert np.array_equal(picture, read_png(tmp_path / "found" / "proj.png"))
    assert labels.shape == (1, 8, 8) and sorted(np.unique(labels)) == [0, 1, 2, 3, 4]
    assert np.array_equal(read_png(out / "colours-5.png"), seg.mean_colours(labels[0], picture))

    several = ["seed:1", tmp_path / "found", "--class", 1, "--clusters", 3]
    assert cli("segment", *several, *with_network, "-o", tmp_path / "many")[0] == 0
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["found", "seed1"]


def test_what_the_command_refuses(cli, tmp_path):
    torch.save(test_biggan.plain(), tmp_path / "G.pth")
    for args, message in [
        (["-n", "faces64", "seed:1"], "this network has no self-attention; segments need a network that has it"),
        (["-n", tmp_path / "G.pth", "seed:1"], "choose that of seed:N with --class"),
        (["-n", tmp_path / "G.pth", "seed:1", "--class", 0, "--clusters", "8,x"], "expected numbers from 1 to 256"),
        (["-n", tmp_path / "G.pth", "seed:1", "--class", 0, "--layer", "linear"], "there is no attention 'linear'"),
        (["-n", tmp_path / "G.pth", "seed:1", "--class", 0, "--clusters", "65"], "gives 1 to 64"),
    ]:
        code, out, err = cli("segment", *args, "-q", "-o", tmp_path / "out")
        assert code not in (0, None) and message in err and "Traceback" not in err, err
        assert not (tmp_path / "out").exists()
