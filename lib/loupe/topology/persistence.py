"""Lifetimes of connected components, the bars of degree-0 persistent homology, and their weighted sums."""

import math
from collections.abc import Iterable

import numpy as np

from loupe.checks import whole
from loupe.topology.distances import checked_distances, finite_points, is_tensor
from loupe.topology.trees import lifetimes_of, merge_heights, spanning_tree


def h0_lifetimes(points=None, *, distances=None, method="auto"):
    r"""Finite lifetimes of the connected components in the Vietoris-Rips filtration.

    Every point is born at scale 0, and a component dies at the length of the edge that merges it into
    another: these are the edges of a minimum spanning tree of the complete distance graph, and the merge
    heights of single-linkage clustering. All routes compute the same numbers.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points; it need not satisfy the triangle inequality.
    method : {"auto", "linkage", "prim", "gudhi", "alpha"}
        ``auto``: from the distance matrix, by the faster of the next two for this number of points; they agree bit for
        bit. ``linkage``: single linkage of scipy. ``prim``: our own Prim, which from points needs O(n) memory and never
        forms the distance matrix. ``gudhi``: persistent homology of the Rips complex itself. ``alpha``: the alpha
        complex, for points of one to three columns; it is imported only on request because gudhi builds it on CGAL,
        whose license is the GPL.

    Returns
    -------
    numpy.ndarray, shape (n - 1,), float64
        In increasing order and in the unit of the points; duplicates contribute zeros. The infinite bar is
        dropped.

    Raises
    ------
    ValueError
        For an unknown method, or points or distances that are not valid.

    Examples
    --------
    >>> h0_lifetimes([[0.0], [1.0], [3.0], [3.0]]).tolist()
    [0.0, 1.0, 2.0]
    """
    if method not in LIFETIME_METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(LIFETIME_METHODS)}")
    return np.sort(LIFETIME_METHODS[method](points, distances))


def lifetimes_by_size(points, distances):
    """By linkage or Prim's algorithm; shapes as in :func:`h0_lifetimes`."""
    return lifetimes_of(checked_distances(points, distances))


def lifetimes_by_linkage(points, distances):
    """Merge heights of single-linkage clustering; shapes as in :func:`h0_lifetimes`."""
    return merge_heights(checked_distances(points, distances))


def lifetimes_by_prim(points, distances):
    """Edge lengths of the tree grown by Prim's algorithm; shapes as in :func:`h0_lifetimes`."""
    return spanning_tree(points, distances=distances)[1]


def lifetimes_by_gudhi(points, distances):
    """Deaths in the degree-0 diagram of the Rips complex; shapes as in :func:`h0_lifetimes`."""
    distances = checked_distances(points, distances)
    deaths = persistence_diagrams(distances=distances, homology_dimensions=(0,))[0][:, 1]
    duplicates = np.zeros(len(distances) - 1 - len(deaths))  # gudhi leaves out bars of length zero
    return np.append(duplicates, deaths)


def lifetimes_by_alpha(points, distances):
    """Deaths in the alpha complex; its filtration value is a squared radius, so a lifetime is twice its root."""
    if points is None or distances is not None:
        raise ValueError("method 'alpha' needs points: a distance matrix has no alpha complex")
    points = finite_points(points)
    if points.shape[1] > 3:
        raise ValueError(
            f"method 'alpha' is for 1 to 3 columns, got {points.shape[1]}; use 'linkage' or 'prim'"
        )
    import gudhi

    distinct = np.unique(points, axis=0)
    tree = gudhi.AlphaComplex(points=distinct).create_simplex_tree()
    tree.compute_persistence(min_persistence=-1)
    deaths = tree.persistence_intervals_in_dimension(0)[:, 1]
    lifetimes = 2 * np.sqrt(deaths[np.isfinite(deaths)])
    return np.append(np.zeros(len(points) - len(distinct)), lifetimes)


LIFETIME_METHODS = {
    "auto": lifetimes_by_size,
    "linkage": lifetimes_by_linkage,
    "prim": lifetimes_by_prim,
    "gudhi": lifetimes_by_gudhi,
    "alpha": lifetimes_by_alpha,
}


def lifetime_sum(points=None, alpha=1.0, *, distances=None):
    r"""Weighted sum of lifetimes :math:`E_\alpha=\sum_\gamma|\gamma|^\alpha` (section 2 of the paper).

    For a tensor the result carries the gradient
    :math:`\partial E_\alpha/\partial x_i=\sum_{(i,j)\in\mathrm{MST}}\alpha\,|x_i-x_j|^{\alpha-2}(x_i-x_j)`,
    in which edges of length zero count as zero. It may be differentiated to any order, mapped by ``torch.func.vmap`` over
    clouds of one size, and compiled: the tree is then one opaque operation.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    alpha : float
        Positive power.
    distances : array or torch.Tensor, shape (n, n), optional
        Instead of points; a tensor is differentiated too.

    Returns
    -------
    float or torch.Tensor
        A scalar tensor if a tensor was given.

    Raises
    ------
    ValueError
        If alpha is not positive, or the points or distances are not valid.

    Examples
    --------
    >>> lifetime_sum([[0.0], [1.0], [3.0]], alpha=2.0)
    5.0
    """
    check_alpha(alpha)
    if is_tensor(points) or is_tensor(distances):
        from loupe.topology.tensors import tree_sum, trees_of

        (edges,) = trees_of(points, distances, [range(len(distances if points is None else points))])
        return tree_sum(points, distances, edges, alpha)
    return float((h0_lifetimes(points, distances=distances) ** alpha).sum())


def check_alpha(alpha):
    """Raise ValueError unless alpha is a positive number."""
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be a positive number, got {alpha}")


def persistence_diagrams(points=None, *, distances=None, homology_dimensions=(0, 1)):
    """Persistence diagrams of the Vietoris-Rips complex, by gudhi.

    Parameters
    ----------
    points : array or torch.Tensor, shape (n, d), optional
    distances : array, shape (n, n), optional
        Instead of points.
    homology_dimensions : sequence of int, or int
        0 for components, 1 for loops. Loops of more than a thousand points take long.

    Returns
    -------
    list of numpy.ndarray, shape (m, 2), float64
        One diagram for each degree: birth and death scales, in the unit of the points (edge length, not radius).
        Infinite bars and bars of length zero are omitted.

    Raises
    ------
    ValueError
        For points or distances that are not valid, or degrees that are not integers of at least 0.

    Examples
    --------
    >>> persistence_diagrams([[0.0], [1.0], [3.0]], homology_dimensions=(0,))[0].tolist()
    [[0.0, 1.0], [0.0, 2.0]]
    """
    from gudhi.sklearn.rips_persistence import RipsPersistence

    degrees = homology_dimensions
    degrees = list(degrees) if isinstance(degrees, Iterable) and np.ndim(degrees) else [degrees]
    degrees = [whole("each of homology_dimensions", degree, 0) for degree in degrees]
    if not degrees:
        raise ValueError("homology_dimensions must name at least one degree, such as (0, 1), got none")
    distances = checked_distances(points, distances)
    rips = RipsPersistence(
        homology_dimensions=degrees, input_type="full distance matrix", homology_coeff_field=2
    )
    (diagrams,) = rips.fit_transform([distances])
    return [diagram[np.isfinite(diagram).all(axis=1)] for diagram in diagrams]
