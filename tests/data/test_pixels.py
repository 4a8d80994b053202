"""Images in the unit interval: values, order of axes, margins and means over blocks, pixel by pixel."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import refused

from loupe.data.catalog import DataError
from loupe.data.images import standardized, unit_interval


def pictures(*shape, top=255, seed=0):
    return np.random.default_rng(seed).integers(top + 1, size=shape, dtype=np.uint8)


def by_hand(image, size, brightest):
    """One channel (H, W) made ``size`` pixels, in whole numbers: which block each pixel of the picture falls into."""
    sides = [math.ceil(side / size) * size for side in image.shape]
    above, left = ((whole - side) // 2 for whole, side in zip(sides, image.shape, strict=True))
    high, wide = (whole // size for whole in sides)
    sums = [[0] * size for _ in range(size)]
    for i, row in enumerate(image.tolist()):
        for j, value in enumerate(row):
            sums[(i + above) // high][(j + left) // wide] += value
    return [[float(Fraction(one, high * wide * brightest)) for one in row] for row in sums]


def test_grey_and_colour_at_their_own_size():
    grey, color = pictures(5, 4, 7), pictures(5, 4, 7, 3)
    found = unit_interval(grey)
    assert found.shape == (5, 1, 4, 7)
    np.testing.assert_array_equal(found[:, 0], grey.astype(np.float32) / np.float32(255))
    found = unit_interval(color)
    assert found.shape == (5, 3, 4, 7)
    for c in range(3):
        np.testing.assert_array_equal(found[:, c], unit_interval(color[..., c])[:, 0])


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 8, 3)])
def test_kind_of_array(shape, size):
    stored = pictures(*shape)
    before = stored.copy()
    found = unit_interval(stored, size)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    found[:] = 0.5  # the caller's own
    np.testing.assert_array_equal(stored, before)


@pytest.mark.parametrize(("top", "brightest"), [(255, 255), (16, 16), (1, 1)])
@pytest.mark.parametrize("size", [None, 2])
def test_black_is_zero_and_white_is_one(top, brightest, size):
    stored = np.zeros((2, 4, 4), dtype=np.uint8)
    stored[1] = top
    found = unit_interval(stored, size, brightest=brightest)
    assert (found[0] == 0).all()
    assert (found[1] == 1).all()


def test_mnist_at_16_goes_through_32():
    stored = pictures(6, 28, 28)
    wide = np.zeros((6, 32, 32))
    wide[:, 2:30, 2:30] = stored
    expected = (wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]) / 4 / 255
    np.testing.assert_array_equal(unit_interval(stored, 16)[:, 0], expected.astype(np.float32))


@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14), st.sampled_from([16, 255]))
@settings(max_examples=80, deadline=None)
def test_means_over_blocks_pixel_by_pixel(high, wide, size, brightest):
    stored = pictures(2, high, wide, top=brightest, seed=high + 20 * wide)
    try:
        found = unit_interval(stored, size, brightest=brightest)
    except DataError:
        assert any(size > side or 4 * (-side % size) > side for side in (high, wide))
        return
    assert all(size <= side and 4 * (-side % size) <= side for side in (high, wide))
    for image, made in zip(stored, found[:, 0], strict=True):
        np.testing.assert_array_equal(made, np.float32(by_hand(image, size, brightest)))


def test_an_odd_margin_is_at_the_bottom_and_right():
    stored = np.full((1, 7, 7), 255, dtype=np.uint8)
    found = unit_interval(stored, 4)[0, 0]
    assert found[:3, :3].min() == 1
    assert found[3].tolist() == [0.5, 0.5, 0.5, 0.25]


def test_colours_are_made_smaller_each_for_itself():
    color = pictures(2, 32, 32, 3)
    found = unit_interval(color, 8)
    for c in range(3):
        np.testing.assert_array_equal(found[:, c], unit_interval(color[..., c], 8)[:, 0])


def test_size_of_the_images_changes_nothing():
    stored = pictures(3, 28, 28)
    np.testing.assert_allclose(unit_interval(stored, 28), unit_interval(stored), rtol=1e-7)


@pytest.mark.parametrize(
    ("images", "size", "brightest", "says"),
    [
        (np.zeros((2, 4, 4)), None, 255, "must be uint8 of shape (n, H, W) or (n, H, W, 3), got float64"),
        (pictures(4, 4), None, 255, "got uint8 of shape (4, 4)"),
        (pictures(2, 3, 4, 4), None, 255, "got uint8 of shape (2, 3, 4, 4)"),
        (pictures(0, 4, 4), None, 255, "got uint8 of shape (0, 4, 4)"),
        (
            np.full((1, 8, 8), 17, np.uint8),
            None,
            16,
            "A value of 17 is above brightest=16: pass the set's own",
        ),
        (pictures(1, 8, 8), None, 0, "brightest must be from 1 to 255, got 0"),
        (pictures(1, 8, 8), 0, 255, "size must be a positive whole number of pixels, got 0"),
        (pictures(1, 8, 8), 4.0, 255, "size must be a positive whole number of pixels, got 4.0"),
        (pictures(1, 8, 8), True, 255, "size must be a positive whole number of pixels, got True"),
        (
            pictures(1, 28, 28),
            32,
            255,
            "Images of 28 x 28 pixels cannot be made 32 x 32 by means over blocks",
        ),
        (pictures(1, 28, 28), 32, 255, "without wide margins: sizes near it that can be are 17, 28"),
        (pictures(1, 28, 28), 20, 255, "sizes near it that can be are 16, 17, 28"),
        (pictures(1, 28, 14), 16, 255, "sizes near it that can be are 8, 14"),
    ],
)
def test_bad_input_is_named(images, size, brightest, says):
    refused(re.escape(says), unit_interval, images, size, brightest=brightest)


@pytest.mark.parametrize("shape", [(9, 4, 7), (9, 4, 7, 3)])
def test_channels_of_the_training_part_have_mean_zero_and_deviation_one(shape):
    train, test = pictures(*shape), pictures(*shape, seed=1)
    found, other = standardized(train, test)
    for c, (one, two) in enumerate(zip(found.swapaxes(0, 1), other.swapaxes(0, 1), strict=True)):
        plain = [x if x.ndim == 3 else x[..., c] for x in (train, test)]
        mean, deviation = plain[0].mean(), plain[0].std()
        assert one.mean() == pytest.approx(0, abs=1e-6)
        assert one.std() == pytest.approx(1, abs=1e-6)
        for ours, pixels in zip((one, two), plain, strict=True):
            np.testing.assert_allclose(ours, (pixels - mean) / deviation, atol=1e-6)
    assert found.dtype == other.dtype == np.float32
    assert found.flags.c_contiguous
