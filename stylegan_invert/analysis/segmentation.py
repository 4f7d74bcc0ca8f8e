"""Segments of a picture from a network's self-attention, and measures by which segmentations are compared.

Pividori, Grinblat & Uzal, "Exploiting GAN Internal Capacity for High-Quality Reconstruction of Natural Images", section 5: two
pixels are near to each other if they attend to each other, and average linkage joins near ones.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
import scipy.cluster.hierarchy
import scipy.cluster.vq
import scipy.ndimage
import torch

from ..generator import Code, GeneratorAdapter

MOST_POINTS = 2**14  # a map of 128x128, whose dissimilarities take 2.1 GB while they are clustered
MOST_CLUSTERS = 256  # the labels of so many fit into a PNG of 8 bits


def attention_name(generator: GeneratorAdapter, name: str | None = None) -> str:
    """The name of the attention map to be used: the one that was asked for, or the largest of the network.

    Raises:
        ValueError: the network has no self-attention, or not this one.
    """
    shapes = generator.attention_shapes()
    if not shapes:
        raise ValueError("this network has no self-attention; segments need a network that has it, as a BigGAN")
    if name is not None and name not in shapes:
        raise ValueError(f"there is no attention {name!r}; this network has {', '.join(shapes)}")
    return name or max(shapes, key=lambda one: shapes[one][0] * shapes[one][1])


def segment(
    generator: GeneratorAdapter, code: Code, clusters: Sequence[int], name: str | None = None
) -> list[np.ndarray]:
    """Segment the picture of a code by the network's self-attention.

    Args:
        generator: the network behind its adapter.
        code: one code (N = 1) in any space, for example the h* of ``--method dense``.
        clusters: numbers of segments, each from 1 to the number of pixels of the attention map and at most 256.
        name: a name in `GeneratorAdapter.attention_shapes`; None takes the largest map.

    Returns:
        For each number k a label map (H, W) int64 in the size of the attention map, with exactly the labels 0 to k - 1, in
        the order in which they first occur row by row. All come from one linkage, so a segment of a map with more labels
        lies in one segment of a map with fewer.

    Raises:
        ValueError: the network has no such attention, the code does not reach it, the map is larger than 128x128, or a
            number of segments is out of range.

    Clustering a map of 64x64, which has 4,096 pixels, takes 0.4 s on one core and 0.17 GB; both grow with the square of the
    number of pixels.
    """
    name = attention_name(generator, name)
    shape = generator.attention_shapes()[name]
    points = shape[0] * shape[1]
    if points > MOST_POINTS:
        raise ValueError(f"the attention {name} has {points:,} pixels; clustering takes at most {MOST_POINTS:,}")
    most = min(points, MOST_CLUSTERS)
    for count in clusters:
        if not 1 <= count <= most:
            raise ValueError(f"{count} segments were asked for; the attention {name} gives 1 to {most}")
    if len(code) != 1:
        raise ValueError(f"{len(code)} codes were given; expected one")
    with torch.no_grad():
        attention = generator.attention(code, name)[0].cpu().double().numpy()
    merges = scipy.cluster.hierarchy.linkage(dissimilarity(attention, shape), "average")
    return [cut(merges, count).reshape(shape[:2]) for count in clusters]


def dissimilarity(attention: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """D = 1 - (A + A^T) / 2 of every two different pixels; that of a pixel with itself is zero and left out.

    The map of what is attended to is enlarged by repeating its pixels, as the paper's code does. Other scales of A would
    give the same segments, because average linkage joins in the same order then.

    Args:
        attention: A before enlarging, (H W, h w).
        shape: (H, W, h, w).

    Returns:
        (n (n - 1) / 2,) float64 for n = H W: the entries above the diagonal row by row, as
        `scipy.spatial.distance.squareform` has them. The square matrix is never formed.
    """
    height, width, h, w = shape
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    key = (rows[:, None] * w + columns).ravel()  # of each pixel, the pixel of the smaller map that covers it
    n = height * width
    result = np.empty(n * (n - 1) // 2)
    start = 0
    for i in range(n - 1):
        end = start + n - 1 - i
        result[start:end] = 1 - (attention[i, key[i + 1 :]] + attention[i + 1 :, key[i]]) / 2
        start = end
    return result


def cut(merges: np.ndarray, count: int) -> np.ndarray:
    """The clusters that are left when the last ``count - 1`` merges of a linkage are undone.

    Args:
        merges: the matrix (n - 1, 4) of `scipy.cluster.hierarchy.linkage`.
        count: the number of clusters, from 1 to n.

    Returns:
        (n,) int64 with exactly the labels 0 to count - 1, in the order in which they first occur.
    """
    # A limit on the distance would give fewer clusters where merges have equal distances; one on their number does not.
    number = np.arange(float(len(merges)))
    found = scipy.cluster.hierarchy.fcluster(merges, len(merges) - count, "monocrit", monocrit=number)
    return _renumbered(found)


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """Labels (n,) as the numbers from 0, in the order in which they first occur."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def at_size(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A label map (H, W) in the size of a picture (height, width), by repeating its pixels."""
    h, w = labels.shape
    return labels[np.arange(height) * h // height][:, np.arange(width) * w // width]


def mean_colours(labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A picture (C, H, W) uint8 in which each segment has the mean colour of its pixels (Figures 6 and 10).

    Args:
        labels: a label map of any size.
        pixels: the picture (C, H, W) uint8.
    """
    of_pixel = at_size(labels, *pixels.shape[1:]).ravel()
    sizes = np.maximum(np.bincount(of_pixel), 1)
    means = [np.bincount(of_pixel, channel.ravel()) / sizes for channel in pixels]
    return np.stack(means).round().astype(np.uint8)[:, of_pixel].reshape(pixels.shape)


def overlay(labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A picture (3, H, W) uint8, half the picture and half a colour that each segment has to itself.

    Args:
        labels: a label map of any size.
        pixels: the picture (C, H, W) uint8; grey is repeated, alpha left out.
    """
    count = labels.max() + 1
    # Steps of the golden ratio keep the hues of segments apart, however many there are.
    colours = np.array([colorsys.hsv_to_rgb(i * 0.618034 % 1, 1 - 0.4 * (i % 2), 1) for i in range(count)]) * 255
    rgb = pixels.repeat(3, axis=0) if len(pixels) == 1 else pixels[:3]
    own = colours[at_size(labels, *pixels.shape[1:])].transpose(2, 0, 1)
    return ((rgb + own) / 2).round().astype(np.uint8)


def colour_segments(pixels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Segments by k-means on the colours of pixels alone; what segments from attention are compared with.

    Args:
        pixels: (C, H, W) uint8.
        count: the number of segments. A picture with fewer colours gives fewer.
        seed: of the starts (k-means++).

    Returns:
        A label map (H, W) int64 with the labels from 0.
    """
    values = pixels.reshape(len(pixels), -1).T.astype(np.float64)
    count = min(count, len(np.unique(values, axis=0)))
    _, labels = scipy.cluster.vq.kmeans2(values, count, minit="++", seed=np.random.RandomState(seed))
    return _renumbered(labels).reshape(pixels.shape[1:])


def boundaries(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels whose neighbour to the right or below has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def boundary_agreement(labels: np.ndarray, mask: np.ndarray, tolerance: int = 1) -> dict[str, float]:
    """How well the boundaries of segments agree with that of a foreground.

    Args:
        labels: a label map of any size.
        mask: (H, W) bool, True in the foreground. The label map is brought to this size.
        tolerance: boundaries that are so many pixels apart, also diagonally, still agree.

    Returns:
        "recall", the share of the mask's boundary that is near one of a segment; "precision", the share of the segments'
        boundaries that is near the mask's, 0 if they have none; and "f", the harmonic mean of both. More segments have a
        higher recall by chance alone, so compare equally many.

    Raises:
        ValueError: the mask has no boundary.

    Source: Martin, Fowlkes & Malik, "Learning to Detect Natural Image Boundaries" (2004), without their matching of single
        pixels.
    """
    true, found = boundaries(mask), boundaries(at_size(labels, *mask.shape))
    if not true.any():
        raise ValueError("the mask has no boundary; expected one with foreground and background")

    def near(edge: np.ndarray) -> np.ndarray:
        return scipy.ndimage.maximum_filter(edge, 2 * tolerance + 1, mode="constant")

    recall = float(near(found)[true].mean())
    precision = float(near(true)[found].mean()) if found.any() else 0.0
    return {"recall": recall, "precision": precision, "f": 2 * recall * precision / max(recall + precision, 1e-30)}


def stability(labels: np.ndarray, shifted: np.ndarray, down: int, right: int) -> float:
    """How far the segments of a picture stay the same when the picture is shifted.

    Args:
        labels: the label map (H, W) of the picture, in the size of the picture; see `at_size`.
        shifted: that of the picture after the shift, (H, W).
        down: by how many pixels the picture was moved down, negative for up.
        right: the same to the right.

    Returns:
        The adjusted Rand index over the pixels that both show: 1 for equal segments, about 0 for unrelated ones.
    """
    height, width = labels.shape
    before = labels[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    after = shifted[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
    return adjusted_rand(before.ravel(), after.ravel())


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """The adjusted Rand index of two labellings (n,) of the same points.

    Source: Hubert & Arabie, "Comparing Partitions" (1985), equation 5.
    """
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    table = np.zeros([a.max() + 1, b.max() + 1])
    np.add.at(table, (a, b), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, first, second, every = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array([len(a)]))
    expected, most = first * second / max(every, 1), (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)
