"""Pairs of images: line drawings and coarse versions as sources for image translation, and their scale."""

import numpy as np

from loupe.checks import of_shape, whole


def edge_maps(images, *, threshold=0.45, smoothing=0.0):
    """Line drawings: 1 where brightness changes fast, 0 elsewhere.

    The gradient is taken by undivided differences ``x[i + 1] - x[i - 1]``, with edges replicated, after smoothing by a
    Gaussian. For photographs, a smoothing of 1 pixel is usual.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, C, H, W)
        Values in [0, 1]. With three channels, their luminance is used.
    threshold : float
        Norm of the gradient above which there is an edge.
    smoothing : float
        Standard deviation of the Gaussian in pixels.

    Returns
    -------
    numpy.ndarray
        float32, shape of ``images``; all channels are equal.

    Raises
    ------
    ValueError
        For images of another shape, or values outside [0, 1].
    """
    images = _unit_images(images)
    gray = images[:, 0] if images.shape[1] == 1 else np.tensordot(images, (0.299, 0.587, 0.114), (1, 0))
    if smoothing:
        from scipy.ndimage import gaussian_filter

        gray = gaussian_filter(gray, (0, smoothing, smoothing), mode="reflect")
    padded = np.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="edge")
    norm = np.hypot(padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    return np.broadcast_to((norm > threshold)[:, None], images.shape).astype(np.float32)


def block_means(images, size):
    """Coarse images: each block of ``size`` by ``size`` pixels has its mean, in gray.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, C, H, W)
        Values in [0, 1]; H and W are multiples of ``size``.
    size : int

    Returns
    -------
    numpy.ndarray
        float32, shape of ``images``; all channels are equal.

    Raises
    ------
    ValueError
        For images of another shape or not divisible into blocks, or values outside [0, 1].
    """
    images, size = _unit_images(images), whole("size", size)
    n, channels, height, width = images.shape
    if height % size or width % size:
        raise ValueError(
            f"images of {height} x {width} pixels have no blocks of {size}: take a divisor of both"
        )
    means = images.reshape(n, channels, height // size, size, width // size, size).mean((1, 3, 5))
    coarse = means.repeat(size, 1).repeat(size, 2)[:, None]
    return np.broadcast_to(coarse, images.shape).astype(np.float32)


def image_pairs(targets, sources):
    """Targets and sources as networks take them: values in [-1, 1].

    Parameters
    ----------
    targets, sources : numpy.ndarray, shape (n, C, H, W)
        Values in [0, 1], such as from :func:`loupe.data.images.unit_interval`.

    Returns
    -------
    tuple of two torch.Tensor, shape (n, C, H, W), float32

    Raises
    ------
    ValueError
        For images of another shape, integers, or values outside [0, 1].
    """
    import torch  # imported here: it takes seconds

    targets, sources = _unit_images(targets), _unit_images(sources)
    of_shape("sources", sources, targets.shape)
    return tuple(torch.from_numpy((2 * images - 1).astype(np.float32)) for images in (targets, sources))


def _unit_images(images):
    """The images as an array of floats, checked."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"images must be floats of shape (n, 1 or 3, H, W), got {images.dtype} of shape {images.shape}: take them "
            "from loupe.data.images.unit_interval"
        )
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"images must have values in [0, 1], got {images.min():g} to {images.max():g}: rescale them"
        )
    return images
