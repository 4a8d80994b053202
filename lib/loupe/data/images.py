"""Image sets: MNIST, CIFAR-10, the digits of scikit-learn, small Omniglot."""

import io
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loupe.data.catalog import DataError
from loupe.data.door import read_arrays
from loupe.deprecation import renamed

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in a training and a test part.

    Attributes
    ----------
    x_train, x_test : numpy.ndarray
        uint8, ``(n, height, width)`` if gray, ``(n, height, width, 3)`` if RGB; values 0 to `brightest`.
    y_train, y_test : numpy.ndarray
        int64 ``(n,)``, index into `classes`.
    classes : tuple of str
        Class names.
    variant : str
        Which copy of the set this is; show it where it matters.
    brightest : int
        Value of full intensity: divide by it to get the unit interval.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    variant: str
    brightest: int = 255


@dataclass(frozen=True, eq=False)
class Characters:
    """Handwritten characters, every one drawn once by each of 20 people.

    Attributes
    ----------
    images : numpy.ndarray
        uint8 ``(4840, 28, 28)``; ink is 255, paper 0.
    alphabet : numpy.ndarray
        int64 ``(4840,)``, index into `alphabets`.
    character : numpy.ndarray
        int64 ``(4840,)``, 0 to 241.
    drawer : numpy.ndarray
        int64 ``(4840,)``, 1 to 20.
    alphabets : tuple of str
        Eight names.
    """

    images: np.ndarray
    alphabet: np.ndarray
    character: np.ndarray
    drawer: np.ndarray
    alphabets: tuple[str, ...]

    @renamed(part="split")
    def rows(self, split):
        """Rows of a split; no drawer is in two splits, and each character is in all three.

        Parameters
        ----------
        split : {"train", "valid", "test"}
            Drawers 1 to 16, 17 and 18, 19 and 20.

        Returns
        -------
        numpy.ndarray
            int64 row numbers, increasing.
        """
        drawers = {"train": (1, 16), "valid": (17, 18), "test": (19, 20)}
        if split not in drawers:
            raise DataError(f"There is no split {split!r}: the splits are 'train', 'valid' and 'test'.")
        first, last = drawers[split]
        return np.flatnonzero((self.drawer >= first) & (self.drawer <= last))


def mnist(source):
    """MNIST: 60,000 training and 10,000 test images of ``(28, 28)``, in the original order."""
    stored = read_arrays(source.path())
    return Images(
        stored["x_train"],
        stored["y_train"].astype(np.int64),
        stored["x_test"],
        stored["y_test"].astype(np.int64),
        tuple("0123456789"),
        "original (lossless)",
    )


def cifar10(source, train=None, test=None):
    """CIFAR-10: 50,000 training and 10,000 test images ``(32, 32, 3)``, or the first `train` and `test`."""
    stored = read_arrays(source.path())
    parts = []
    for split, count in (("train", train), ("test", test)):
        total = len(stored[f"y_{split}"])
        if count is not None and not 0 < count <= total:
            raise DataError(
                f"CIFAR-10 has {total} {split} images, not {count!r}: ask for 1 to {total}, or None for all."
            )
        labels = stored[f"y_{split}"][:count].astype(np.int64)
        if source.form == "public":
            parts += [stored[f"x_{split}"][:count], labels]
        else:
            parts += [_decode(stored[f"jpeg_{split}"], stored[f"offset_{split}"][: len(labels) + 1]), labels]
    variant = "original (lossless)" if source.form == "public" else "JPEG quality 75 copy (lossy)"
    return Images(*parts, CIFAR_CLASSES, variant)


def _decode(jpegs, offsets):
    """Decode JPEG files that lie one after another: ``(n + 1,)`` offsets give ``(n, 32, 32, 3)`` uint8."""
    from PIL import Image

    content = jpegs[: offsets[-1]].tobytes()
    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    for k, (start, stop) in enumerate(pairwise(offsets)):
        with Image.open(io.BytesIO(content[start:stop]), formats=("JPEG",)) as picture:
            images[k] = picture.convert("RGB")
    return images


def digits(source, test=360, seed=0):
    """Digits of scikit-learn, ``(8, 8)``, values 0 to 16: 1,437 to train, 360 to test, stratified, seeded."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if not 10 <= test <= 1787:
        raise DataError(f"A test part of {test!r} digits is not possible: ask for 10 to 1787.")
    found = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        found.images.astype(np.uint8),
        found.target.astype(np.int64),
        test_size=test,
        random_state=seed,
        stratify=found.target,
    )
    variant = f"scikit-learn digits, {test} test images drawn with seed {seed}"
    return Images(x_train, y_train, x_test, y_test, tuple("0123456789"), variant, brightest=16)


def omniglot(source):
    """Small Omniglot: 242 characters of eight alphabets by 20 drawers, ``(28, 28)``."""
    stored = read_arrays(source.path())
    return Characters(
        stored["images"],
        *(stored[key].astype(np.int64) for key in ("alphabet", "character", "drawer")),
        tuple(str(name) for name in stored["alphabet_names"]),
    )


# --- images as networks see them ----------------------------------------------------------------------------


LARGEST_MARGIN = 1 / 4  # share of a side for both margins; more would leave a small image in a frame


def unit_interval(images, size=None, *, brightest=255):
    """Images with values in [0, 1], channels first, optionally resized to `size` pixels.

    To shrink images, zeros are padded evenly up to the next multiple of `size` (an odd one at the bottom and right),
    and blocks of pixels are averaged. So MNIST, 28 pixels, is padded to 32 and becomes 16. Sums are exact.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, ``(n, H, W)`` if gray, ``(n, H, W, 3)`` if RGB, as of :class:`Images`.
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
        If the array is not such images, a value is above `brightest`, or the size needs margins of more than a quarter
        of a side.

    Examples
    --------
    >>> unit_interval(np.array([[[0, 255], [255, 255]]], dtype=np.uint8), 1)
    array([[[[0.75]]]], dtype=float32)
    """
    images = np.asarray(images)
    color = images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or color) or 0 in images.shape:
        raise DataError(
            f"Images must be uint8 of shape (n, H, W) or (n, H, W, 3), got {images.dtype} of shape {images.shape}: "
            f"take them as load() gives them"
        )
    if not 1 <= brightest <= 255:
        raise DataError(f"brightest must be from 1 to 255, got {brightest}: 255 for most sets, 16 for digits")
    if (found := images.max()) > brightest:
        raise DataError(f"A value of {found} is above brightest={brightest}: pass the set's own brightest")
    images = images.transpose(0, 3, 1, 2) if color else images[:, None]
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
    # In float64, piece by piece.
    return np.divide(sums, high * wide * brightest, out=means, casting="same_kind")


def standardized(train, test):
    """Images channels first, each channel shifted and scaled to mean 0 and deviation 1 over the training part.

    Parameters
    ----------
    train, test : numpy.ndarray
        ``(n, H, W)`` if gray, ``(n, H, W, 3)`` if RGB, as of :class:`Images`.

    Returns
    -------
    list of numpy.ndarray
        Both parts, float32 ``(n, C, H, W)``, with the mean and the deviation of the first.

    Examples
    --------
    >>> standardized(np.array([[[0, 2]]]), np.array([[[1, 3]]]))[1].tolist()
    [[[[0.0, 2.0]]]]
    """
    views = (x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) for x in (train, test))
    parts = [view.astype(np.float32, order="C") for view in views]
    mean, deviation = (f(parts[0], axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    return [(part - mean) / deviation for part in parts]


def fits(size, sides):
    """Whether images with these sides have at least `size` pixels on each side and need no wide margins."""
    return all(size <= side and -side % size <= LARGEST_MARGIN * side for side in sides)
