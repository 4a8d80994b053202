"""Sources made of images: edge maps and block means."""

import numpy as np
import pytest
import torch

from loupe.data.pairs import block_means, edge_maps, image_pairs


def test_edges_of_a_square_are_beside_its_border():
    image = np.zeros((1, 1, 8, 8))
    image[..., 2:6, 2:6] = 1
    found = edge_maps(image)
    expected = np.zeros((8, 8))
    expected[1:7, 2:6] = expected[2:6, 1:7] = 1
    expected[3:5, 3:5] = 0
    assert np.array_equal(found[0, 0], expected)
    assert found.dtype == np.float32


def test_edges_of_color_images_are_those_of_their_luminance():
    image = np.random.default_rng(0).uniform(size=(2, 3, 8, 8))
    gray = np.tensordot(image, (0.299, 0.587, 0.114), (1, 0))[:, None]
    found = edge_maps(image, threshold=0.1, smoothing=1.0)
    assert np.array_equal(found, np.repeat(edge_maps(gray, threshold=0.1, smoothing=1.0), 3, 1))
    assert 0 < found.mean() < 1


def test_block_means():
    image = np.arange(16.0).reshape(1, 1, 4, 4) / 16
    found = block_means(image, 2)
    assert np.allclose(found[0, 0, :2, :2], image[0, 0, :2, :2].mean())
    assert np.allclose(block_means(found.astype(float), 2), found)
    color = np.random.default_rng(0).uniform(size=(2, 3, 4, 4))
    assert np.allclose(block_means(color, 4), color.mean((1, 2, 3), keepdims=True))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((1, 1, 4, 4), dtype=np.uint8), "images must be floats of shape"),
        (np.zeros((1, 2, 4, 4)), "images must be floats of shape"),
        (np.full((1, 1, 4, 4), 2.0), r"values in \[0, 1\], got 2 to 2"),
        (np.full((1, 1, 4, 4), np.nan), r"values in \[0, 1\]"),
    ],
)
def test_other_images_are_refused(images, sentence):
    fine = np.zeros((1, 1, 4, 4))
    for make in (
        edge_maps,
        lambda x: block_means(x, 2),
        lambda x: image_pairs(x, fine),
        lambda x: image_pairs(fine, x),
    ):
        with pytest.raises(ValueError, match=sentence):
            make(images)


def test_images_that_are_not_divisible_are_refused():
    with pytest.raises(ValueError, match="4 x 4 pixels have no blocks of 3"):
        block_means(np.zeros((1, 1, 4, 4)), 3)


def test_pairs_for_networks_are_between_minus_one_and_one():
    images = np.linspace(0, 1, 32).reshape(2, 1, 4, 4)
    targets, sources = image_pairs(images, images[::-1])
    assert (targets.dtype, targets.min(), targets.max()) == (torch.float32, -1, 1)
    assert torch.equal(sources, targets.flip(0))
    with pytest.raises(ValueError, match=r"sources must have shape \(2, 1, 4, 4\), got \(1, 1, 4, 4\)"):
        image_pairs(images, images[:1])
    with pytest.raises(ValueError, match="got 0 to 255: rescale"):
        image_pairs(images, 255 * images)
