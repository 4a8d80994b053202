"""Euclidean distances between the rows of a cloud or a trajectory, accurate even where rows nearly coincide."""

import sys

import numpy as np

from loupe.checks import unmasked

# Up to this many columns direct differences are both faster than a matrix product and free of cancellation.
DIRECT_COLUMNS = 32

# Bytes of one float64 block of columns: enough for full matrix-product speed, at little memory.
BLOCK_BYTES = 2**24

# A squared distance below this fraction of the two squared norms has lost ten of its sixteen digits.
CANCELLATION = 1e-10

# Distance matrices that differ from their transposes by less than these fractions are used as is, or averaged.
FLOAT64_ROUNDING, FLOAT32_ROUNDING = 1e-12, 1e-5

# Rounding of distances from float32 inner products, as in torch.cdist: 4e-3 of the largest distance for points a few
# diameters from the origin.
PRODUCT_ROUNDING = 5e-3


# Beyond this, squared differences may overflow; below its inverse they vanish.
LARGEST = 1e150


def pairwise_distances(points):
    r"""Euclidean distances between all rows, in float64.

    Iterates of a converged training run are long vectors that differ by tiny steps, and
    :math:`|a|^2+|b|^2-2\,a\cdot b` on raw float32 weights cancels to nothing. Here the first row is
    subtracted in float64, the Gram matrix is accumulated block by block over the columns (so a memory-mapped trajectory
    is never copied), and rows that still nearly coincide are recentered on one of them. Clouds with few columns use
    direct differences.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d)
        Real numbers of any width; arrays, memory maps, and tensors on any device (used detached).

    Returns
    -------
    numpy.ndarray, shape (n, n), float64
        Exactly symmetric, zero on the diagonal, and exactly zero between duplicate rows.

    Raises
    ------
    ValueError
        If the points are not a non-empty matrix of real numbers, or a row holds NaN or infinity.

    Notes
    -----
    Costs :math:`n^2 d` multiply-adds, and memory for a few (n, n) matrices besides the points.

    Examples
    --------
    >>> pairwise_distances([[0, 0], [3, 4], [3, 4]]).tolist()
    [[0.0, 5.0, 5.0], [5.0, 0.0, 0.0], [5.0, 0.0, 0.0]]
    """
    from scipy.spatial.distance import pdist, squareform

    points = as_points(points)
    if is_tensor(points) or points.shape[1] > DIRECT_COLUMNS:
        return centered_distances(points, np.arange(len(points)))
    return squareform(pdist(finite_points(points)))


def best_plane(distances):
    """Coordinates of points in the plane that holds most of their spread, from their distances alone.

    These are the two largest principal components (classical multidimensional scaling).

    Parameters
    ----------
    distances : array, shape (n, n)
        Euclidean.

    Returns
    -------
    numpy.ndarray, shape (n, 2), float64
        Centered; each column up to its sign.

    Raises
    ------
    ValueError
        If the distances are not valid.

    Examples
    --------
    >>> plane = best_plane([[0, 3, 5], [3, 0, 4], [5, 4, 0]])
    >>> pairwise_distances(plane).round(12).tolist()
    [[0.0, 3.0, 5.0], [3.0, 0.0, 4.0], [5.0, 4.0, 0.0]]
    """
    squares = checked_distances(None, distances) ** 2
    rows = squares.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(-(squares - rows - rows.T + squares.mean()) / 2)
    return vectors[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 0))


def centered_distances(points, rows):
    r"""Distances between the given rows from their Gram matrix about the first of them.

    :math:`d_{ij}^2=G_{ii}+G_{jj}-2G_{ij}` is accurate unless it is tiny compared with :math:`G_{ii}+G_{jj}`. In that
    case the rows around :math:`i` are computed again, centered on :math:`i`. The first row is the origin and is never
    close to another row in this sense, so each group is smaller than the last and the recursion ends.

    Parameters
    ----------
    points : numpy.ndarray or torch.Tensor, shape (n, d)
    rows : numpy.ndarray of int, shape (m,)

    Returns
    -------
    numpy.ndarray, shape (m, m), float64
    """
    with np.errstate(all="ignore"):  # non-finite rows are reported below
        gram = centered_gram(points, rows)
    norms = gram.diagonal().copy()
    if not np.isfinite(norms).all():
        pair = as_float64(points[rows[[0, np.isfinite(norms).argmin()]]])
        if np.isfinite(pair).all():
            check_scale(pair)
        reject_nonfinite(np.isfinite(norms))

    scales = norms[:, None] + norms
    squares = np.subtract(scales, np.multiply(gram, 2, out=gram), out=gram)
    np.fill_diagonal(squares, 0.0)
    near = np.triu(squares < np.multiply(scales, CANCELLATION, out=scales), k=1)
    distances = np.sqrt(np.maximum(squares, 0.0, out=squares), out=squares)
    for i in np.flatnonzero(near.any(axis=1)):
        group = np.append(i, np.flatnonzero(near[i]))
        if len(group) > 1:  # an earlier group may have computed these pairs
            pairs = np.ix_(group, group)
            distances[pairs] = centered_distances(points, rows[group])
            near[pairs] = False
    return distances


def centered_gram(points, rows):
    r"""Inner products :math:`G_{ij}=\langle x_i-x_0,\,x_j-x_0\rangle` of the given rows, in float64.

    Parameters
    ----------
    points : numpy.ndarray or torch.Tensor, shape (n, d)
        A tensor is multiplied on its own device.
    rows : numpy.ndarray of int, shape (m,)
        The first of them is :math:`x_0`.

    Returns
    -------
    numpy.ndarray, shape (m, m), float64
        Exactly symmetric.
    """
    width = max(1, BLOCK_BYTES // (8 * len(rows)))
    gram = 0.0
    for start in range(0, points.shape[1], width):
        block = points[rows, start : start + width]
        block = block.double() if is_tensor(block) else block.astype(np.float64)
        centered = block - block[:1]
        gram = gram + centered @ centered.T
    if is_tensor(gram):
        # Unlike numpy's, torch's product need not be exactly symmetric.
        gram = ((gram + gram.T) / 2).cpu().numpy()
    return gram


def is_tensor(values):
    """Whether values are a torch tensor, without importing torch: if it is not loaded, they are not."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def as_points(points, name="points"):
    """Points as a real matrix without a copy; only a tensor on another device stays a tensor."""
    points = unmasked(name, points)
    if is_tensor(points):
        points = points.detach()
        if points.device.type == "cpu":
            points = (points.float() if points.dtype.itemsize < 4 else points).numpy()  # numpy lacks bfloat16
    else:
        points = np.asarray(points)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(
            f"{name} must be a non-empty matrix, one point a row; got shape {tuple(points.shape)}"
        )
    if not is_tensor(points) and points.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got dtype {points.dtype}")
    return points


def as_float64(points, name="points"):
    """Points as a float64 array (n, d), checked as :func:`as_points` does."""
    points = as_points(points, name)
    return np.asarray(points.cpu() if is_tensor(points) else points, dtype=np.float64)


def finite_points(points):
    """Points as a float64 array (n, d) without NaN or infinity, their squares included."""
    points = as_float64(points)
    reject_nonfinite(np.isfinite(points).all(axis=1))
    check_scale(points)
    return points


def check_scale(points):
    """ValueError for finite points whose squared distances are too large or too small for float64."""
    reach = max(points.max(), -points.min())
    if reach and not 1 / LARGEST < reach < LARGEST:
        raise ValueError(f"points reach {reach:.3g}, whose squares leave float64: divide them by a scale")


def reject_nonfinite(finite_rows):
    """Raise ValueError naming the first row that is not finite; finite_rows is boolean, shape (n,)."""
    if not finite_rows.all():
        row = int(np.argmin(finite_rows))
        raise ValueError(
            f"row {row} holds NaN or infinity: drop the rows from there on (did the training diverge?)"
        )


def checked_distances(points, distances):
    """A valid distance matrix, for functions that take either points or distances.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), or None
    distances : array or torch.Tensor, shape (n, n), or None
        Exactly one of the two is given. Asymmetry from rounding is averaged out, and rounding on the diagonal becomes
        0.

    Returns
    -------
    numpy.ndarray, shape (n, n), float64

    Raises
    ------
    ValueError
        If both or none are given, there are fewer than two points, or the matrix is not square, or not (up to rounding
        of its dtype) symmetric, non-negative, finite and zero on its diagonal; for masked arrays and sparse matrices.
    """
    if (points is None) == (distances is None):
        raise ValueError("give either points or distances, and not both")
    if distances is None:
        distances = pairwise_distances(points)
    else:
        rounding = rounding_of(distances)
        distances = as_float64(distances, "distances")
        distances = symmetric(without_rounding(distances, rounding), rounding)
    if len(distances) < 2:
        raise ValueError("need at least 2 points, got 1")
    return distances


def rounding_of(distances):
    """The fraction of the largest distance that may be rounding; in single precision, from squares that nearly cancel."""
    width = getattr(getattr(distances, "dtype", None), "itemsize", 8)
    return FLOAT32_ROUNDING if width > 4 else PRODUCT_ROUNDING


def without_rounding(distances, rounding):
    """The distances, with rounding on the diagonal and tiny negative numbers set to zero.

    ValueError unless they are square, finite, non-negative, and zero on the diagonal up to rounding.
    """
    if distances.shape[0] != distances.shape[1]:
        raise ValueError(
            f"distances must be square, got shape {distances.shape}: of points, give pairwise_distances(points)"
        )
    smallest, largest = distances.min(), distances.max()
    if not np.isfinite([smallest, largest]).all():
        reject_nonfinite(np.isfinite(distances).all(axis=1))
    if smallest < -FLOAT64_ROUNDING * max(largest, 0):
        own = distances.diagonal().min()
        if smallest < own or own < -rounding * largest:
            raise ValueError(f"distances must not be negative, got {smallest:g}")
    own = np.abs(distances.diagonal()).max()
    if own > rounding * largest:
        raise ValueError(
            f"distances must be zero on the diagonal, between a point and itself, got {own:g} (the largest is "
            f"{largest:g}): compute them in float64, or by pairwise_distances(points)"
        )
    if smallest < 0 or own > 0:
        distances = np.maximum(distances, 0)
        np.fill_diagonal(distances, 0)
    return distances


def symmetric(matrix, rounding=FLOAT32_ROUNDING):
    """The matrix (n, n) if symmetric, its mean with the transpose if nearly so; otherwise ValueError.

    Comparing every entry with its mirror image misses the cache. Products with fixed random weights from the left and
    from the right are several times faster, and agree only if the matrix is symmetric.
    """
    weights = np.random.default_rng(0).random(len(matrix))
    products = matrix @ weights
    if np.abs(products - weights @ matrix).max() <= FLOAT64_ROUNDING * products.max():
        return matrix
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > rounding * matrix.max():
        raise ValueError(f"distances must be symmetric; they differ from their transpose by {asymmetry:g}")
    return (matrix + matrix.T) / 2
