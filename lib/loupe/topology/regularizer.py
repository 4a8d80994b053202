"""The persistent-homology dimension as a regularizer: differentiable in the points."""

import numpy as np

from loupe.topology.dimension import checked_sizes
from loupe.topology.distances import is_tensor
from loupe.topology.persistence import check_alpha


def differentiable_ph_dimension(points, subsets, alpha=1.0, *, distances=None):
    r"""Persistent-homology dimension with its gradient, for given subsets (the regularizer of the paper).

    The trees are found without gradients, their edge lengths with gradients:
    :math:`\partial\hat d/\partial x=\frac{\alpha}{(1-m)^2}\sum_n\frac{\tilde x_n}{\sum\tilde x^2}\,
    \frac1{E_n}\frac{\partial E_n}{\partial x}`, with :math:`\tilde x_n` the centered :math:`\log n`.

    Parameters
    ----------
    points : torch.Tensor, shape (n, d), or None
    subsets : sequence of int arrays
        Row indices, in at least three different sizes; sums over subsets of one size are averaged.
    alpha : float
        Power of the lifetimes.
    distances : torch.Tensor, shape (n, n), optional
        With ``points=None``, differentiate these instead: a training loop then replaces one row and column in each
        step.

    Returns
    -------
    torch.Tensor
        Scalar; nan where the slope is not below 1.

    Raises
    ------
    ValueError
        If alpha or the subsets are not valid, all lifetimes are zero, or the points or distances are not
        valid.
    TypeError
        If no tensor is given: without a gradient, use :func:`ph_dimension`.

    Examples
    --------
    >>> import torch
    >>> points = torch.rand(100, 3, dtype=torch.float64, requires_grad=True)
    >>> differentiable_ph_dimension(points, [range(20), range(40), range(80)]).backward()
    >>> points.grad.shape
    torch.Size([100, 3])
    """
    import torch

    from loupe.topology.tensors import is_traced, tree_sum, trees_of

    if not (is_tensor(points) or is_tensor(distances)):
        raise TypeError("differentiable_ph_dimension needs a torch tensor: for arrays use ph_dimension")
    check_alpha(alpha)
    sums_of = {}
    for edges in trees_of(points, distances, subsets):
        sums_of.setdefault(len(edges) + 1, []).append(tree_sum(points, distances, edges, alpha))
    sizes = checked_sizes(sorted(sums_of), len(distances if points is None else points))
    means = torch.stack([torch.stack(sums_of[n]).mean() for n in sizes])
    if not is_traced() and not means.all():
        raise ValueError("all lifetimes are zero in one of the subsets: its points are identical")

    log_n = torch.as_tensor(np.log(sizes)).to(means)
    centered = log_n - log_n.mean()
    slope = centered @ means.log() / (centered @ centered)
    return alpha / torch.where(slope < 1, 1 - slope, torch.nan)
