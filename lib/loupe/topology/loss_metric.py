"""A distance between iterates by their losses, not by their weights."""

from loupe.topology.distances import finite_points


def loss_distances(losses):
    r"""Distances between iterates by their losses on the same examples (Dupuis et al. 2023).

    :math:`\rho(w,w')=\frac1n\sum_{i=1}^n|\ell(w,z_i)-\ell(w',z_i)|`. Different weights of equal losses have distance
    zero, so this is a pseudo-metric.

    Parameters
    ----------
    losses : array or torch.Tensor, shape (K, n)
        Losses of K iterates on n examples, one row for each iterate; used in float64.

    Returns
    -------
    numpy.ndarray, shape (K, K), float64
        In the unit of the losses; exactly symmetric and zero on the diagonal.

    Raises
    ------
    ValueError
        If the losses are not a non-empty matrix of real numbers, or a row holds NaN or infinity.

    Notes
    -----
    Costs :math:`K^2n/2` differences, and a float64 copy of losses in another dtype.

    Examples
    --------
    >>> loss_distances([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0]]).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    from scipy.spatial.distance import pdist, squareform

    losses = finite_points(losses)
    return squareform(pdist(losses, "cityblock") / losses.shape[1])
