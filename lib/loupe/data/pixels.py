"""Stored images as networks take them: channels first, numbers in [0, 1], and smaller if asked."""

import numpy as np

from loupe.data.errors import DataError

LARGEST_MARGIN = 1 / 4  # of a side, both margins together; more would leave a small picture in a frame


def unit_interval(images, size=None, *, brightest=255):
    """Images with values in [0, 1], channels first, and if asked of `size` pixels.

    To make them smaller, zeros are added evenly around each image up to the next multiple of `size`, with an odd one
    at the bottom and at the right, and blocks of pixels are replaced by their mean. So MNIST, 28 pixels, becomes 16
    through 32. Sums are exact.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, ``(n, H, W)`` if grey, ``(n, H, W, 3)`` if RGB, as of :class:`~loupe.data.images.Images`.
    size : int, optional
        Height and width afterwards; as stored if not given.
    brightest : int
        Value of full intensity.

    Returns
    -------
    numpy.ndarray
        float32 ``(n, C, size, size)``, with 1 or 3 channels; in C order.

    Raises
    ------
    DataError
        If the array is not of such images, a value is above `brightest`, or the images cannot be made that small with
        margins of a quarter of a side or less.

    Examples
    --------
    >>> unit_interval(np.array([[[0, 255], [255, 255]]], dtype=np.uint8), 1)
    array([[[[0.75]]]], dtype=float32)
    """
    images = np.asarray(images)
    colour = images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour) or 0 in images.shape:
        raise DataError(
            f"Images must be uint8 of shape (n, H, W) or (n, H, W, 3), got {images.dtype} of shape {images.shape}: "
            f"take them as load() gives them"
        )
    if not 1 <= brightest <= 255:
        raise DataError(f"brightest must be from 1 to 255, got {brightest}: 255 for most sets, 16 for digits")
    if (found := images.max()) > brightest:
        raise DataError(f"A value of {found} is above brightest={brightest}: pass the set's own brightest")
    images = images.transpose(0, 3, 1, 2) if colour else images[:, None]
    if size is None:
        return np.divide(images, np.float32(brightest), dtype=np.float32, order="C")
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise DataError(f"size must be a positive whole number of pixels, got {size!r}")
    sides = images.shape[2:]
    if not fits(size, sides):
        near = [one for one in range(1, max(sides) + 1) if fits(one, sides)]
        near = [*[one for one in near if one < size][-2:], *[one for one in near if one > size][:2]]
        raise DataError(
            f"Images of {sides[0]} x {sides[1]} pixels cannot be made {size} x {size} by means over blocks without wide "
            f"margins: sizes near it that can be are {', '.join(map(str, near))}"
        )
    margins = [-side % size for side in sides]
    if any(margins):
        around = [(0, 0), (0, 0), *((margin // 2, margin - margin // 2) for margin in margins)]
        images = np.pad(images, around)
    high, wide = (side // size for side in images.shape[2:])
    # Sums of strided views: several times as fast as a reduction over short axes.
    sums = np.zeros((*images.shape[:2], size, size), dtype=np.uint32)
    for row in range(high):
        for column in range(wide):
            sums += images[:, :, row::high, column::wide]
    means = np.empty(sums.shape, dtype=np.float32)
    return np.divide(
        sums, high * wide * brightest, out=means, casting="same_kind"
    )  # in float64, piece by piece


def fits(size, sides):
    """Whether images with these sides have at least `size` pixels each way and need no wide margins."""
    return all(size <= side and -side % size <= LARGEST_MARGIN * side for side in sides)
