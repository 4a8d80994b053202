"""Sums over the states of a log-score, in cache-sized pieces: with a large vocabulary the scores fill the memory.

Only the gradient is as large as the scores; inactive rows are not read.
"""

import torch

from loupe.derivatives import transformed

PIECE = {"cpu": 2**18}
"""Scores in one piece on a CPU; elsewhere pieces are larger, since kernel launches cost more than memory."""
LARGE_PIECE = 2**26
WIDE = 2**10
"""Number of states from which it pays to skip single rows."""


def score_entropy_rows(log_score, active, x, x0, others, extra, constant):
    """``sum_{y != x} exp(l_y) - others sum_{y != x} l_y - extra l_x0 + constant`` for each row l, where it is active.

    Parameters
    ----------
    log_score : torch.Tensor, shape (n, states)
    active : torch.Tensor of bool, shape (n,), or None
        The value of other rows is 0. None for all.
    x, x0 : torch.Tensor of int64, shape (n,)
    others : torch.Tensor, shape (n,), float64, or None
        None for 0.
    extra, constant : torch.Tensor, shape (n,), float64

    Returns
    -------
    torch.Tensor, shape (n,)
        Of float64 if the scores are, else of float32.
    """
    noise = [value for value in (others, extra, constant) if value is not None]
    if torch.compiler.is_compiling() or transformed() or any(value.requires_grad for value in noise):
        return _plain(log_score, active, x, x0, others, extra, constant)
    return _ScoreEntropy.apply(log_score, active, x, x0, others, extra, constant)[0]


def _plain(log_score, active, x, x0, others, extra, constant):
    """The same in plain operations that autograd can follow, using more memory."""
    if active is not None:
        log_score = log_score.masked_fill(~active.unsqueeze(1), 0)
    here = x.unsqueeze(1)
    logs = log_score.double().scatter(1, here, 0)
    total = constant + logs.exp().scatter(1, here, 0).sum(1)
    total = total - extra * logs.gather(1, x0.unsqueeze(1)).squeeze(1)
    if others is not None:
        total = total - others * logs.sum(1)
    if active is not None:
        total = total.masked_fill(~active, 0)
    return total.to(working(log_score))


class _ScoreEntropy(torch.autograd.Function):
    """Exponentials are most of the work: if a gradient is needed, they are kept in the tensor that becomes it.

    Where autograd records the backward pass, :func:`_plain` provides it.
    """

    @staticmethod
    def forward(log_score, active, x, x0, others, extra, constant):
        # At low noise the clean token has by far the largest score: it nearly cancels, and needs float64.
        # Where x0 is x nothing is subtracted: unused entries may be infinite.
        own = log_score.gather(1, x0.unsqueeze(1)).squeeze(1).double()
        total = constant + torch.where(x0 == x, 0, own.exp() - extra * own)
        wanted = log_score.requires_grad and log_score.dtype == working(log_score)
        kept = torch.empty_like(log_score) if wanted else None
        for part in _pieces(log_score, active):
            s = _exponentials(log_score, x, part, kept)
            there = x0[part].unsqueeze(1)
            at_x0 = s.gather(1, there)
            total[part] += s.scatter_(1, there, 0).sum(1)
            s.scatter_(1, there, at_x0)
            if others is not None:
                logs = log_score[part].scatter(1, x[part].unsqueeze(1), 0)
                total[part] -= others[part] * logs.sum(1, dtype=s.dtype)
        if active is not None:
            total.masked_fill_(~active, 0)
        # Terms that nearly cancel were added in float64 and are rounded only here.
        return total.to(working(log_score)), kept

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)  # a tensor of zeros would be as large as the scores
        ctx.kept = output[1]
        if ctx.kept is not None:
            ctx.mark_non_differentiable(ctx.kept)

    @staticmethod
    def backward(ctx, cotangent, _):
        if cotangent is None:
            return (None,) * 7
        log_score, active, x, x0, others, extra, constant = ctx.saved_tensors
        if torch.is_grad_enabled():
            _, vjp = torch.func.vjp(
                lambda logs: _plain(logs, active, x, x0, others, extra, constant), log_score
            )
            return *vjp(cotangent), *[None] * 6
        # Used once: a second pass through a retained graph recomputes them.
        kept, ctx.kept = ctx.kept, None
        gradient = torch.empty_like(log_score) if kept is None else kept
        for part in _pieces(log_score, active):
            slope = _exponentials(log_score, x, part, None) if kept is None else kept[part]
            if others is not None:
                slope -= others[part].unsqueeze(1).to(slope)
                slope.scatter_(1, x[part].unsqueeze(1), 0)
            slope.scatter_add_(1, x0[part].unsqueeze(1), -extra[part].unsqueeze(1).to(slope))
            slope *= cotangent[part].unsqueeze(1).to(slope)
            if kept is None:
                gradient[part] = slope
        if active is not None:
            gradient.index_fill_(0, (~active).nonzero().squeeze(1), 0)
        return gradient, None, None, None, None, None, None


def _exponentials(log_score, x, part, kept):
    """Exponentials of the scores of some rows, 0 at x, written into ``kept`` if it is given."""
    scores = log_score[part].to(working(log_score))
    s = torch.exp(scores, out=None if kept is None else kept[part])
    return s.scatter_(1, x[part].unsqueeze(1), 0)


def row_sums(log_score, active, states):
    """``sum_{y < states} exp(l_y)`` of the active rows, shape (n,), float64; other rows are undefined."""
    sums = torch.zeros(len(log_score), dtype=torch.float64, device=log_score.device)
    for part in _pieces(log_score, active):
        sums[part] += log_score[part, :states].to(working(log_score)).exp().sum(1)
    return sums


def working(scores):
    """The dtype to compute in, at least float32."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def _pieces(log_score, active):
    """Slices that cover the active rows; all rows where rows are short."""
    count, states = log_score.shape
    size = rows_of_piece(log_score)
    runs = [(0, count)]
    if active is not None and states >= WIDE:
        edges = torch.nn.functional.pad(active.byte(), (1, 1)).diff().nonzero().squeeze(1).tolist()
        runs = zip(edges[::2], edges[1::2], strict=True)
    for first, last in runs:
        for start in range(first, last, size):
            yield slice(start, min(start + size, last))


def rows_of_piece(log_score):
    """Number of rows in a piece."""
    return max(1, PIECE.get(log_score.device.type, LARGE_PIECE) // log_score.shape[1])
