"""Networks that classify images."""

from itertools import pairwise

from torch import nn


def fully_connected(widths, *, bias=False):
    """A fully connected ReLU network; its depth counts linear layers.

    Parameters
    ----------
    widths : sequence of int
        Sizes of input, hidden layers and output: k + 1 numbers make k linear layers.
    bias : bool
        Whether linear layers have biases.

    Returns
    -------
    torch.nn.Sequential
        Maps inputs of shape (B, ...), flattened to (B, widths[0]), to logits (B, widths[-1]).

    Raises
    ------
    ValueError
        For fewer than two widths.

    Examples
    --------
    >>> sum(p.numel() for p in fully_connected([784, 64, 64, 64, 64, 10]).parameters())
    63104
    """
    if len(widths) < 2:
        raise ValueError(f"widths must name at least input and output, got {list(widths)}")
    layers = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
