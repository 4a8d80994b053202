r"""Metrics of sample sets: classifier features, random projections, distances between points.

:func:`frechet_distance` and :func:`class_score` depend on the classifier behind them, and mean little without reference
values: real images against other real images, and against noise. Only :func:`inception_scores` returns FID and the
Inception score.
"""

import pickle
from dataclasses import dataclass
from http.client import HTTPException

import numpy as np

from loupe.checks import unmasked, whole
from loupe.errors import LoupeError

BLOCK = 2**22  # numbers held at once besides the samples: 32 MiB of float64
ROW_SUM = 1e-4  # tolerance for sums of a softmax in float32 or half precision
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
SPLITS = 10  # parts over which torch-fidelity averages the Inception score


class InceptionError(LoupeError):
    """The Inception network is not available; the message says what to install or where to put its weights."""


def frechet_distance(a, b):
    r"""Feature Fréchet distance: between the normal distributions fitted to two sets of features.

    .. math::

        \lvert\mu_a-\mu_b\rvert^2+\operatorname{tr}\left(C_a+C_b-2\,(C_a^{1/2}C_bC_a^{1/2})^{1/2}\right)

    It is the squared 2-Wasserstein distance of the two distributions, and depends on the classifier behind the
    features. It is not FID, which is the same formula with Inception features: see :func:`inception_scores`. Too few
    rows bias it upward, by about the same for all methods: compare at equal n, at least ten times d.

    Parameters
    ----------
    a, b : torch.Tensor or array, shape (n, d) and (m, d)
        Features, one row for each image; n and m above d. Computed in float64.

    Returns
    -------
    float
        At least 0; rounding errors, about 1e-12 of the variance of the features, are clipped at 0.

    Raises
    ------
    ValueError
        If the sets differ in d, have too few rows for a covariance of full rank, or a feature is not finite.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(100, 3))
    >>> round(frechet_distance(features, features + [3, 0, 4]), 9)
    25.0
    """
    a, b = checked_pair(a, b)
    width = a.shape[1]
    for name, one in (("a", a), ("b", b)):
        if len(one) <= width:
            raise ValueError(
                f"{name} has {len(one)} rows of {width} features, so its covariance is singular: "
                f"give at least {width + 1} rows, better {10 * width}"
            )
    roots = [covariance_root(one) for one in (a, b)]
    shift = a.mean(axis=0) - b.mean(axis=0)
    # Eigenvalues of the last root are singular values of the product of both roots. This avoids a square and another
    # root, which would turn rounding errors of 1e-16 into 1e-8 where features are constant.
    overlap = np.linalg.norm(roots[0] @ roots[1], ord="nuc")
    traces = sum((root**2).sum() for root in roots)
    return max(0.0, float(shift @ shift + traces - 2 * overlap))


def covariance_root(rows):
    """Symmetric square root of the covariance (divisor n - 1) of rows (n, d), shape (d, d)."""
    centered = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered / (len(rows) - 1))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def class_score(probabilities):
    r"""How confident a classifier is on each image, and how evenly the images cover its classes.

    :math:`\exp\,\mathrm E_x\,\mathrm{KL}\bigl(p(y\mid x)\,\|\,p(y)\bigr)` with natural logarithms, :math:`p(y)` the mean
    over the images. It is 1 if the classifier cannot tell the images apart, and the number of classes if it is certain
    on each image and all classes are equally frequent. With n images it is at most n. Only Inception's is called the
    Inception score.

    Parameters
    ----------
    probabilities : torch.Tensor or array, shape (n, classes)
        p(y | x), one row for each image.

    Returns
    -------
    float
        From 1 to the number of classes.

    Raises
    ------
    ValueError
        If a probability is negative or not finite, or a row does not sum to 1 within 1e-4.

    Examples
    --------
    >>> round(class_score([[1, 0], [0, 1]]), 9)
    2.0
    >>> round(class_score([[0.3, 0.7], [0.3, 0.7]]), 9)
    1.0
    """
    from scipy.special import rel_entr

    rows = checked_rows("probabilities", probabilities)
    sums = rows.sum(axis=1, keepdims=True)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if rows.min() < 0 or abs(worst - 1) > ROW_SUM:
        raise ValueError(
            f"probabilities must be 0 or more and sum to 1 in each row, got a least value {rows.min():g} and a sum "
            f"{worst:g}: apply a softmax to logits"
        )
    rows = rows / sums
    return float(np.exp(max(0.0, rel_entr(rows, rows.mean(axis=0)).sum(axis=1).mean())))


def sliced_wasserstein(a, b, *, projections=200, seed=0):
    r"""Sliced 2-Wasserstein distance: the root mean square over projections on random lines.

    .. math::

        \mathrm{SW}_2(a,b)=\Bigl(\mathrm E_\theta\,W_2^2(\theta\cdot a,\theta\cdot b)\Bigr)^{1/2},\qquad
        W_2^2(u,v)=\int_0^1\bigl(F_u^{-1}(q)-F_v^{-1}(q)\bigr)^2\,dq

    with :math:`\theta` uniform on the unit sphere. On a line, :math:`W_2` compares quantiles: sorted values if both
    sets have the same size, otherwise the steps of both quantile functions, without interpolation. A shift by v gives
    about :math:`\lvert v\rvert/\sqrt d`.

    Parameters
    ----------
    a, b : torch.Tensor or array, shape (n, ...) and (m, ...)
        Samples of one shape, flattened to d numbers each.
    projections : int
        Random lines.
    seed : int
        Seed of the lines, which are the same for the same d: distances with one seed share their errors.

    Returns
    -------
    float
        0 or more.

    Raises
    ------
    ValueError
        If samples differ in shape, a set is empty, a number is not finite, or there is no projection.

    Examples
    --------
    >>> sliced_wasserstein([[0.0], [2.0]], [[3.0], [1.0]])
    1.0
    """
    projections = whole("projections", projections)
    shapes = [np.shape(one) for one in (a, b)]
    for name, shape in zip("ab", shapes, strict=True):
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{name} must be samples of shape (n, ...), at least one, got shape {shape}")
    if shapes[0][1:] != shapes[1][1:]:
        raise ValueError(
            f"samples of a have shape {shapes[0][1:]}, those of b {shapes[1][1:]}: make them alike"
        )
    lines = np.random.default_rng(seed).normal(size=(int(np.prod(shapes[0][1:])), projections))
    lines /= np.linalg.norm(lines, axis=0)
    on_a, on_b = (quantiles_on(lines, name, one) for name, one in (("a", a), ("b", b)))
    n, m = on_a.shape[1], on_b.shape[1]
    # Steps of either quantile function, in units of 1 / (n m): integers.
    steps = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    weights, from_a, from_b = np.diff(steps) / (n * m), steps[:-1] // m, steps[:-1] // n
    squares = [np.square(one[from_a] - two[from_b]) @ weights for one, two in zip(on_a, on_b, strict=True)]
    return float(np.sqrt(np.mean(squares)))


def quantiles_on(lines, name, samples):
    """Sorted projections of samples (n, ...) on lines (d, projections), shape (projections, n)."""
    found = np.empty((lines.shape[1], len(samples)))
    size = max(1, BLOCK // len(lines))
    for start in range(0, len(samples), size):
        rows = float64(samples[start : start + size])
        found[:, start : start + size] = (rows.reshape(len(rows), -1) @ lines).T
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has numbers that are not finite: leave those samples out, and say how many")
    found.sort(axis=1)
    return found


def energy_distance(a, b):
    r"""Unbiased energy distance of two sets of points.

    :math:`2\,\mathrm E\lvert X-Y\rvert-\mathrm E\lvert X-X'\rvert-\mathrm E\lvert Y-Y'\rvert`, over all pairs of
    different points: a U-statistic. So its expectation is 0 for two sets from the same distribution, and it is then
    negative about half the time. The form that includes pairs of a point with itself is biased upward by about
    :math:`\mathrm E\lvert X-X'\rvert\,(1/n+1/m)`.

    Parameters
    ----------
    a, b : torch.Tensor or array, shape (n, d) and (m, d)
        At least 2 points each. Memory does not grow with n m.

    Returns
    -------
    float
        In the unit of the points.

    Raises
    ------
    ValueError
        If the sets differ in d, have fewer than 2 points, or a number is not finite.

    Examples
    --------
    >>> energy_distance([[0.0], [1.0]], [[10.0], [11.0]])
    18.0
    """
    a, b = checked_pair(a, b)
    for name, one in (("a", a), ("b", b)):
        if len(one) < 2:
            raise ValueError(f"{name} must have at least 2 points to make a pair, got {len(one)}")
    within = sum(sum_within(one) / (len(one) * (len(one) - 1)) for one in (a, b))
    return 2 * sum_between(a, b) / (len(a) * len(b)) - within


def sum_between(a, b):
    """Sum of the distances of each point of ``a (n, d)`` to each of ``b (m, d)``."""
    from scipy.spatial.distance import cdist

    size = max(1, BLOCK // max(1, len(b)))
    return sum(float(cdist(a[start : start + size], b).sum()) for start in range(0, len(a), size))


def sum_within(points):
    """Sum of the distances of all ordered pairs of points (n, d)."""
    size = max(1, BLOCK // len(points))
    total = 0.0
    for start in range(0, len(points), size):
        block, later = points[start : start + size], points[start + size :]
        total += sum_between(block, block) + 2 * sum_between(block, later)
    return total


@dataclass(frozen=True)
class InceptionScores:
    """What :func:`inception_scores` returns.

    Attributes
    ----------
    frechet_inception_distance : float
        FID of the samples to the reference; lower is better.
    inception_score : float
        Mean over ten parts of the samples; higher is better.
    inception_score_std : float
        Standard deviation over the ten parts.
    """

    frechet_inception_distance: float
    inception_score: float
    inception_score_std: float


def inception_scores(samples, reference, *, batch=64):
    """FID and Inception score of color images, by torch-fidelity with the weights behind published values.

    It needs ``pip install -e ".[inception]"``, and downloads 91 MB of weights at the first call. Published values
    compare 50,000 samples with the whole training set: fewer samples make FID larger. A GPU is used if there is one.

    Parameters
    ----------
    samples, reference : torch.Tensor or array of uint8, shape (n, 3, H, W) and (m, 3, H, W)
        Values from 0 to 255, at least 10 images each; Inception enlarges them to 299 x 299 itself.
    batch : int
        Images in one batch of Inception.

    Returns
    -------
    InceptionScores

    Raises
    ------
    ValueError
        If images have the wrong shape or dtype, or are too few.
    InceptionError
        If torch-fidelity is not installed, or its weights cannot be fetched.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    samples, reference = (
        checked_colors(name, one) for name, one in (("samples", samples), ("reference", reference))
    )
    try:
        import torch_fidelity
    except ImportError as error:
        raise InceptionError(
            f"FID and Inception score need torch-fidelity, which cannot be imported ({error}): "
            f'run pip install -e ".[inception]"'
        ) from error
    import torch

    try:
        found = torch_fidelity.calculate_metrics(
            input1=image_set(samples),
            input2=image_set(reference),
            fid=True,
            isc=True,
            isc_splits=SPLITS,
            cuda=torch.cuda.is_available(),
            batch_size=batch,
            save_cpu_ram=True,  # no worker processes: the images are in memory already
            verbose=False,
        )
    except (OSError, HTTPException, EOFError, pickle.UnpicklingError) as error:
        raise InceptionError(
            f"The weights of Inception cannot be loaded ({type(error).__name__}: {error}): connect to the network, or "
            f"put a sound copy of {WEIGHTS}, from the releases of torch-fidelity, into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return InceptionScores(
        float(found["frechet_inception_distance"]),
        float(found["inception_score_mean"]),
        float(found["inception_score_std"]),
    )


def image_set(images):
    """A torch dataset of the images in torch-fidelity's format: uint8 tensors (3, H, W)."""
    import torch

    class ImageSet(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, k):
            return torch.as_tensor(images[k])

    return ImageSet()


def checked_colors(name, images):
    """Images (n, 3, H, W) of uint8; otherwise ValueError."""
    images = on_host(images)
    kind, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
    if kind != "uint8":
        raise ValueError(
            f"{name} must be uint8 images with values from 0 to 255, got {kind}: scale and round them"
        )
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise ValueError(
            f"{name} must be images of shape (n, 3, H, W), got {shape}: put channels second, and gray ones three times"
        )
    if shape[0] < SPLITS:
        raise ValueError(f"{name} must have at least {SPLITS} images, better 50000, got {shape[0]}")
    return images


def checked_pair(a, b):
    """Two sets of rows (n, d) and (m, d) in float64, or ValueError."""
    a, b = checked_rows("a", a), checked_rows("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"rows of a have {a.shape[1]} numbers, those of b {b.shape[1]}: make them alike")
    return a, b


def checked_rows(name, values):
    """Finite rows (n, d) in float64, or ValueError."""
    rows = float64(values)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} must have shape (n, d), with at least one row, got {rows.shape}")
    if not np.isfinite(rows).all():
        broken = int((~np.isfinite(rows)).any(axis=1).sum())
        raise ValueError(
            f"{name} has numbers that are not finite in {broken} of {len(rows)} rows: leave those out, and say how many"
        )
    return rows


def float64(values):
    """A tensor on any device, or anything like an array, as an array of float64."""
    values = on_host(values)
    # Convert tensors to double first: NumPy has no bfloat16.
    return np.asarray(values.double() if hasattr(values, "double") else values, dtype=np.float64)


def on_host(values):
    """A tensor, detached and on the CPU, or anything else as an array."""
    values = unmasked("the array", values)
    return values.detach().cpu() if hasattr(values, "detach") else np.asarray(values)
