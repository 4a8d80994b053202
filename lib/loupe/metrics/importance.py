"""Effective size of a weighted sample."""

import torch


def effective_sample_size(log_weights):
    """Relative effective sample size ``(sum w)**2 / (n sum w**2)``: Kish's size over n.

    With ``w = p(x) / q(x)`` for draws from ``q`` it is 1 if ``q`` is ``p``, and ``1/n`` if one draw has all the weight.
    Scaling the weights changes nothing.

    Parameters
    ----------
    log_weights : torch.Tensor, shape (..., n)
        Logarithms of the weights; ``-inf`` is a weight of 0.

    Returns
    -------
    torch.Tensor, shape (...)
        In [1/n, 1]; nan where a weight is nan or infinite, or all are 0.

    Raises
    ------
    ValueError
        If there are no weights, or they are not a floating-point tensor.

    Examples
    --------
    >>> effective_sample_size(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
    tensor(0.5000)
    """
    if not isinstance(log_weights, torch.Tensor) or not log_weights.is_floating_point():
        got = getattr(log_weights, "dtype", type(log_weights).__name__)
        raise ValueError(
            f"log_weights must be a tensor of floating-point numbers, got {got}: use torch.as_tensor"
        )
    if log_weights.dim() == 0 or log_weights.shape[-1] == 0:
        raise ValueError(
            f"log_weights must have shape (..., n) with n at least 1, got {tuple(log_weights.shape)}"
        )
    n = log_weights.shape[-1]
    return (log_weights.log_softmax(-1).exp().square().sum(-1) * n).reciprocal()
