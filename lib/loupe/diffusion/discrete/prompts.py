"""Given tokens (prompts) and padding of sequences to be sampled."""

import math

import torch


def restorer(given, padding, graph, shape, device="cpu"):
    """A function that puts given tokens in their places and 0 in the padding.

    Parameters
    ----------
    given : (positions, tokens) or None
        As for :func:`~loupe.diffusion.discrete.sample`.
    padding : torch.Tensor of bool, shape (L,) or (..., L), or None
    graph : Absorbing or Uniform
    shape : tuple of int
        (..., L).
    device : str or torch.device

    Returns
    -------
    restore : callable
        From tokens (B, L) to tokens (B, L), the leading axes of ``shape`` flattened.
    padding : torch.Tensor of bool, shape (B, L), or None

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, a position does not exist or has two tokens, or a token is not one of the
        graph's.
    """
    if given is None and padding is None:
        return lambda x: x, None
    where = torch.zeros(shape, dtype=torch.bool, device=device)
    tokens = torch.zeros(shape, dtype=torch.int64, device=device)
    if given is not None:
        where, tokens = _given(given, graph, shape, device)
    if padding is not None:
        padding = torch.as_tensor(padding, device=device)
        if padding.dtype != torch.bool or padding.shape not in (shape[-1:], shape):
            raise ValueError(
                f"padding must be bool of shape {shape}, True where there is no token, got {padding.dtype} of shape "
                f"{tuple(padding.shape)}"
            )
        if (where & padding).any():
            raise ValueError("tokens are given in the padding: a position is one of the two")
        where, padding = where | padding, padding.expand(shape).reshape(-1, shape[-1])
    where, tokens = where.reshape(-1, shape[-1]), tokens.reshape(-1, shape[-1])
    return lambda x: torch.where(where, tokens, x), padding


def _given(given, graph, shape, device):
    """A mask of given positions, and their tokens (0 elsewhere); both of ``shape``."""
    try:
        positions, tokens = (torch.as_tensor(each, device=device) for each in given)
    except ValueError as error:
        raise ValueError(f"given positions or tokens are no tensor ({error}): {_remedy(shape)}") from None
    if any(each.numel() and each.is_floating_point() for each in (positions, tokens)):
        raise ValueError(
            f"given positions and tokens must be integers, got {positions.dtype} and {tokens.dtype}"
        )
    (*batch, L), (m,), mask = shape, positions.shape[-1:] or (0,), positions.dtype == torch.bool
    fits = tokens.shape in ((m,), (1, m), (*batch, m)) and positions.shape in ((m,), (*batch, m))
    if not fits or (mask and m != L):
        raise ValueError(
            f"given tokens must be as many as their positions, for all {math.prod(batch)} sequences or each of them, "
            f"got {tuple(tokens.shape)} for {tuple(positions.shape)}: {_remedy(shape)}"
        )
    positions, tokens = (each.expand(*batch, m) for each in (positions, tokens.long()))
    if not mask:
        positions = positions.long()
        if positions.numel() and not (positions.min() >= 0 and positions.max() < L):
            raise ValueError(
                f"given positions must be from 0 to {L - 1}, got {positions.min().item()} to {positions.max().item()}"
            )
        where = torch.zeros(shape, dtype=torch.bool, device=device).scatter(-1, positions, True)
        if not (where.sum(-1) == m).all():
            raise ValueError("each position can be given one token only: some position is named twice")
        tokens = torch.zeros(shape, dtype=torch.int64, device=device).scatter(-1, positions, tokens)
        positions = where
    graph.check_tokens(tokens[positions], graph.tokens, "given tokens")
    return positions, tokens.masked_fill(~positions, 0)


def _remedy(shape):
    return f"where some sequences have more than others, give positions as bool {shape} and tokens {shape}"
