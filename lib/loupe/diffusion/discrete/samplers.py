"""From noise to text: steps of the reversed chain, for any score, with tokens given at any positions.

``score(x, total_noise)`` gives a log-score ``(B, L, states)`` for tokens ``(B, L)`` and total noise ``(B,)``.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
.. [2] Zheng et al., Masked Diffusion Models are Secretly Time-Agnostic Masked Models, 2024.
.. [3] Ou et al., Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data, 2024.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from loupe.checks import of_shape, whole
from loupe.diffusion.discrete.draws import categorical, exponential_race
from loupe.diffusion.discrete.graphs import METHODS, Absorbing
from loupe.diffusion.discrete.models import scaled_score

LAST_TIME = 1e-5
"""Where the grid of times ends, and the last step takes all noise away."""


@dataclass(frozen=True)
class Samples:
    """Texts, and what they cost.

    Attributes
    ----------
    tokens : torch.Tensor of int64, shape (B, L)
    evaluations : torch.Tensor of int64, shape (B,)
        How often a network was asked about each sequence.
    """

    tokens: torch.Tensor
    evaluations: torch.Tensor


def sample(
    score,
    graph,
    noise,
    shape,
    *,
    steps,
    method="tweedie",
    given=None,
    generator=None,
    device="cpu",
    race=None,
    cached=False,
    watch=None,
):
    """Run the reversed chain from time 1 to 0 in equal steps ([1], algorithms 2 and 3).

    Parameters
    ----------
    score : callable
        With ``cached``, a :class:`~loupe.diffusion.discrete.Denoiser` whose network needs no noise.
    graph : Absorbing or Uniform
    noise : GeometricNoise or LogLinearNoise
    shape : (int, int)
        Sequences B, and their length L.
    steps : int
        Steps before the last one, which takes away what noise is left at the time 1e-5.
    method : str
        ``"tweedie"`` (the best step for each token by itself) or ``"euler"`` (tau-leaping).
    given : (torch.Tensor of int64 (m,), torch.Tensor of int64 (m,) or (B, m)), optional
        Positions, and the tokens there: they are put back before each step and at the end, never corrupted.
    generator : torch.Generator, optional
    device : str or torch.device
    race : torch.dtype, optional
        Draw by an exponential race in these digits over all states, as published code does; exactly by default.
    cached : bool
        Ask the network about a sequence only if a token of it has changed and masks are left [3]; the samples are
        the same.
    watch : callable, optional
        ``watch(k, x)`` sees the tokens after k steps, first the noise, and last the text.

    Returns
    -------
    Samples

    Raises
    ------
    ValueError
        If the method is unknown, there are no steps, or given tokens do not make sense.
    RuntimeError
        If scores are not finite; the message names the step and its time.
    """
    steps = whole("steps", steps)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    ask = _Cached(score) if cached else _Asked(score)
    restore = _restorer(given, graph, shape, device)
    times = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    totals, rates = (each.to(device) for each in noise(times))
    x = restore(graph.limit(shape, generator, device))
    watch = watch or _look_away
    watch(0, x)
    for k in range(steps + 1):
        total = totals[k].expand(shape[0])
        log_score = graph.check_score(ask(x, total), x)
        try:
            if k == steps:
                x = _last_step(graph, log_score, x, total, generator, race)
            else:
                step = (
                    totals[k] - totals[k + 1] if method == "tweedie" else rates[k] * (times[k] - times[k + 1])
                )
                x = _step(graph, log_score, x, step, method, generator, race)
        except ArithmeticError as error:
            raise RuntimeError(f"{error}, at step {k} and time {times[k].item():.3g}") from None
        x = restore(x)
        watch(k + 1, x)
    return Samples(x, ask.evaluations)


def _look_away(k, x):
    """Nobody watches."""


def _step(graph, log_score, x, step, method, generator, race):
    if race is None:
        return graph.advance(log_score, x, step, method=method, generator=generator)
    return exponential_race(graph.probabilities(log_score, x, step, method), generator, race)


def _last_step(graph, log_score, x, total, generator, race):
    if race is None:
        return graph.denoise(log_score, x, total, generator)
    return exponential_race(graph.denoise_probabilities(log_score, x, total), generator, race)


def first_hitting(score, graph, shape, *, given=None, generator=None, device="cpu", watch=None):
    """Samples of the absorbing chain without any error of discretisation [2]: masks go one at a time, at their own times.

    With k masks left at a time at which a share m of the tokens is masked, the next goes where the share is
    ``m u**(1/k)``; which of them it is, is uniform. The law is that of :func:`sample` with endless steps.

    Parameters
    ----------
    score : callable
    graph : Absorbing
    shape, given, generator, device, watch
        As for :func:`sample`; ``watch(k, x)`` sees the tokens after k masks have gone.

    Returns
    -------
    Samples
        Of as many evaluations as there were masks.

    Raises
    ------
    ValueError
        If the graph has no masks, or given tokens do not make sense.
    RuntimeError
        If scores are not finite.
    """
    if not isinstance(graph, Absorbing):
        raise ValueError(f"first hitting times are of masks: the graph must be Absorbing, got {graph}")
    restore = _restorer(given, graph, shape, device)
    x = restore(graph.limit(shape, generator, device))
    options = {"generator": generator, "device": device, "dtype": torch.float64}
    share, ask = torch.ones(shape[0], dtype=torch.float64, device=device), _Asked(score)
    watch = watch or _look_away
    watch(0, x)
    for k in range(max((x == graph.mask).sum(-1).tolist(), default=0)):
        masked = x == graph.mask
        left = masked.sum(-1)
        share = share * torch.rand(shape[0], **options) ** (1 / left.clamp_min(1))
        log_score = graph.check_score(ask(x, -torch.log1p(-share.clamp_max(1 - 1e-9)), left > 0), x)
        where = (torch.rand(shape, **options) * masked).argmax(-1)
        weights = log_score[torch.arange(shape[0], device=device), where, : graph.tokens].double()
        weights = (weights - weights.amax(-1, keepdim=True)).exp().masked_fill((left == 0).unsqueeze(-1), 1)
        try:
            drawn = categorical(weights, torch.rand(shape[0], **options))
        except ArithmeticError as error:
            raise RuntimeError(f"{error}, at mask {k}") from None
        x = torch.where(
            masked & (torch.arange(shape[1], device=device) == where.unsqueeze(-1)), drawn.unsqueeze(-1), x
        )
        watch(k + 1, x)
    return Samples(x, torch.zeros_like(x[:, 0]) + ask.evaluations)


def sample_autoregressive(network, shape, start, *, generator=None, device="cpu", given=None):
    """Texts of a causal network, one token after the other, from its own probabilities.

    Parameters
    ----------
    network : callable
        ``network(x)`` gives logits (B, L, states); states from ``start`` on are never drawn.
    shape : (int, int)
    start : int
        Stands before the first token, and is the number of real tokens.
    generator, device
        As for :func:`sample`.
    given : torch.Tensor of int64, shape (m,) or (B, m), optional
        The first tokens.

    Returns
    -------
    Samples
    """
    x = torch.empty(shape[0], 0, dtype=torch.int64, device=device)
    if given is not None:
        if given.shape[-1] > shape[1] or (given.numel() and not (given.min() >= 0 and given.max() < start)):
            raise ValueError(
                f"given tokens must be at most {shape[1]}, numbers from 0 to {start - 1}, got {given.tolist()}"
            )
        x = given.to(device).long().expand(shape[0], -1)
    asked = 0
    with torch.no_grad():
        while x.shape[1] < shape[1]:
            logits = network(pad(x, (1, 0), value=start))
            of_shape("the logits", logits, (shape[0], x.shape[1] + 1, max(start, logits.shape[-1])))
            logits = logits[:, -1, :start]
            uniform = torch.rand(shape[0], generator=generator, device=device, dtype=torch.float64)
            x = torch.cat([x, categorical(logits.double().softmax(-1), uniform).unsqueeze(-1)], dim=1)
            asked += 1
    return Samples(x, torch.full((shape[0],), asked, device=device))


class _Asked:
    """A score that counts how often it is asked about each sequence."""

    def __init__(self, score):
        self.score, self.evaluations = score, 0

    def __call__(self, x, total_noise, counts=1):
        self.evaluations = self.evaluations + torch.ones_like(x[:, 0]) * counts
        with torch.no_grad():
            return self.score(x, total_noise)


class _Cached:
    """The same for a denoiser without noise, which is asked only about sequences that have changed."""

    def __init__(self, denoiser):
        if getattr(denoiser, "needs_noise", True):
            raise ValueError(
                "cached samples need a Denoiser whose network is not told the noise (condition=0)"
            )
        self.denoiser, self.x, self.logs, self.evaluations = denoiser, None, None, 0

    def __call__(self, x, total_noise):
        changed = torch.ones_like(x[:, 0], dtype=torch.bool)
        if self.x is not None:
            # Where no mask is left, none of the outputs is used.
            changed = (x != self.x).any(-1) & (x == self.denoiser.graph.mask).any(-1)
        if self.x is None or changed.any():
            with torch.no_grad():
                fresh = self.denoiser.log_probabilities(x[changed])
            self.logs = (
                fresh if self.x is None else self.logs.index_copy(0, changed.nonzero().squeeze(1), fresh)
            )
        self.x, self.evaluations = x, self.evaluations + changed.long()
        return scaled_score(self.logs, total_noise)


def _restorer(given, graph, shape, device):
    """A function that puts the given tokens into their places."""
    if given is None:
        return lambda x: x
    positions, tokens = (torch.as_tensor(each, device=device) for each in given)
    if any(each.numel() and each.is_floating_point() for each in (positions, tokens)):
        raise ValueError(
            f"given positions and tokens must be integers, got {positions.dtype} and {tokens.dtype}"
        )
    positions, tokens = positions.long(), tokens.long()
    fits = tokens.dim() == 1 or (tokens.dim() == 2 and len(tokens) in (1, shape[0]))
    if positions.dim() != 1 or tokens.shape[-1:] != positions.shape or not fits:
        raise ValueError(
            f"given tokens must be as many as their positions, for all {shape[0]} sequences or each of them, "
            f"got {tuple(tokens.shape)} for {tuple(positions.shape)}"
        )
    if len(positions) and not (positions.min() >= 0 and positions.max() < shape[1]):
        raise ValueError(
            f"given positions must be from 0 to {shape[1] - 1}, got {positions.min().item()} to {positions.max().item()}"
        )
    graph.check_tokens(tokens, graph.tokens, "given tokens")
    tokens = tokens.expand(shape[0], len(positions))
    if len(positions.unique()) < len(positions):
        raise ValueError("each position can be given one token only: some position is named twice")

    def restore(x):
        return x.index_copy(1, positions, tokens)

    return restore
