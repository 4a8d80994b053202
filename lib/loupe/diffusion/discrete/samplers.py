"""From noise to text: samplers for any score, with prompts at any positions.

``score(x, total_noise)`` gives a log-score ``(B, L, states)`` for tokens ``(B, L)`` and total noise ``(B,)``. It always
gets one batch axis, and ``padding=`` where there is any.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
.. [2] Zheng et al., Masked Diffusion Models are Secretly Time-Agnostic Masked Models, 2024.
.. [3] Ou et al., Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data, 2024.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from loupe.checks import of_shape, whole
from loupe.deprecation import renamed
from loupe.diffusion.discrete.draws import categorical, exponential_sampling, sharpened, sharpness
from loupe.diffusion.discrete.graphs import METHODS, Absorbing
from loupe.diffusion.discrete.models import scaled_score
from loupe.diffusion.discrete.prompts import restorer

ORDERS = ("random", "confidence")
LAST_TIME = 1e-5
"""End of the time grid; the last step removes the rest of the noise."""


@dataclass(frozen=True)
class Samples:
    """Samples, and how many evaluations they took.

    Attributes
    ----------
    tokens : torch.Tensor of int64, shape (B, L), or the requested shape
    evaluations : torch.Tensor of int64, shape (B,) or all but the last axis of it
        Number of network evaluations of each sequence.
    """

    tokens: torch.Tensor
    evaluations: torch.Tensor


@renamed(watch="callback", race="exponential_dtype")
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
    exponential_dtype=None,
    cached=False,
    callback=None,
    temperature=1.0,
    top_p=1.0,
    order="random",
    padding=None,
):
    """Run the reversed chain from time 1 to 0 in equal steps ([1], algorithms 2 and 3).

    Parameters
    ----------
    score : callable
        With ``cached``, a :class:`~loupe.diffusion.discrete.Denoiser` whose network does not take the noise, or a
        wrapper of one.
    graph : Absorbing or Uniform
    noise : GeometricNoise or LogLinearNoise
    shape : tuple of int
        Batch shape B (any number of axes), and length L.
    steps : int
        Steps before the last one, which removes the noise left at time 1e-5.
    method : str
        ``"tweedie"`` (the best step with independent tokens) or ``"euler"`` (tau-leaping).
    given : (positions, tokens), optional
        Prompt tokens, restored before each step and at the end. Positions are int64 of shape (m,) or (B, m), with
        tokens (m,) or (B, m). If sequences have different numbers of them, positions are bool of shape (L,) or (B, L),
        with tokens (L,) or (B, L) that are read where positions are True.
    generator : torch.Generator, optional
    device : str or torch.device
    exponential_dtype : torch.dtype, optional
        Use exponential sampling over all states in this dtype, as published code does; exact draws by default.
    cached : bool
        Evaluate the network on a sequence only if one of its tokens has changed and masks are left [3]; the samples are
        the same. The score must have the attribute ``needs_noise = False``; a function that wraps a denoiser may set
        it.
    callback : callable, optional
        ``callback(k, x)`` is called with the tokens after k steps; the first call gets the noise, the last the
        text.
    temperature, top_p : float or torch.Tensor, shape (B,)
        How the probabilities of clean tokens are :func:`~loupe.diffusion.discrete.sharpened`. They do not affect when a
        mask is replaced; for the uniform graph see :meth:`Uniform.sharpen`.
    order : str
        ``"random"``, or ``"confidence"``: each step replaces as many masks, but those whose most probable token has the
        highest probability at temperature 1.
    padding : torch.Tensor of bool, shape (L,) or (B, L), optional
        For sequences of different lengths: True where there is no token. Those positions hold token 0, and the score
        gets ``padding=`` (B, L).

    Returns
    -------
    Samples

    Raises
    ------
    ValueError
        If the method is unknown, there are no steps, given tokens are invalid, a temperature or ``top_p`` is out of
        range, or the graph or exponential sampling does not allow the order.
    RuntimeError
        If scores are not finite; the message names the step and its time.
    """
    steps = whole("steps", steps)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    masks = isinstance(graph, Absorbing)
    if _by_confidence(order) and not (masks and exponential_dtype is None):
        raise ValueError(
            "only masks have an order, and exponential sampling has none: order='confidence' with "
            f"{graph}, exponential_dtype={exponential_dtype}"
        )
    shape, sharp = tuple(shape), sharpness(temperature, top_p, tuple(shape[:-1]), device)
    if sharp and exponential_dtype is not None:
        raise ValueError(
            "exponential sampling works as published, at temperature 1 and top_p 1: leave exponential_dtype out"
        )
    restore, padding = restorer(given, padding, graph, shape, device)
    counted = (_Cached if cached else _Counted)(score, graph, padding)
    callback, batch, shape = _unflattened(callback, shape), shape[:-1], (math.prod(shape[:-1]), shape[-1])
    times = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    totals, rates = (each.to(device) for each in noise(times))
    x = restore(graph.limit(shape, generator, device))
    callback(0, x)
    for k in range(steps + 1):
        total = totals[k].expand(shape[0])
        log_score, choice = graph.check_score(counted(x, total), x), {}
        if sharp and masks:
            choice |= {"temperature": sharp[0], "top_p": sharp[1]}
        elif sharp:
            log_score = graph.sharpen(log_score, x, total, *sharp)
        if _by_confidence(order) and k < steps:
            choice["confidence"] = _confidence(graph, log_score)
        try:
            if k == steps:
                x = _last_step(graph, log_score, x, total, generator, exponential_dtype, choice)
            else:
                step = (
                    totals[k] - totals[k + 1] if method == "tweedie" else rates[k] * (times[k] - times[k + 1])
                )
                x = _step(graph, log_score, x, step, method, generator, exponential_dtype, choice)
        except ArithmeticError as error:
            raise RuntimeError(f"{error}, at step {k} and time {times[k].item():.3g}") from None
        x = restore(x)
        callback(k + 1, x)
    return Samples(x.view(*batch, shape[-1]), counted.evaluations.view(batch))


def _unflattened(callback, shape):
    """The callback, called with the requested shape."""
    return lambda k, x: callback and callback(k, x.view(shape))


def _by_confidence(order):
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    return order == "confidence"


def _confidence(graph, log_score):
    """Log-probability of the most probable token at each position, as if it were masked."""
    tokens = log_score[..., : graph.tokens]
    return tokens.amax(-1) - tokens.logsumexp(-1)


def _step(graph, log_score, x, step, method, generator, exponential_dtype, choice):
    if exponential_dtype is None:
        return graph.advance(log_score, x, step, method=method, generator=generator, **choice)
    return exponential_sampling(graph.probabilities(log_score, x, step, method), generator, exponential_dtype)


def _last_step(graph, log_score, x, total, generator, exponential_dtype, choice):
    if exponential_dtype is None:
        return graph.denoise(log_score, x, total, generator, **choice)
    return exponential_sampling(
        graph.denoise_probabilities(log_score, x, total), generator, exponential_dtype
    )


@renamed(watch="callback")
def first_hitting(
    score, graph, shape, *, given=None, generator=None, device="cpu", callback=None, temperature=1.0, top_p=1.0,
    order="random", padding=None,
):  # fmt: skip
    """Samples of the absorbing chain without discretization error [2]: masks are replaced one at a time.

    With k masks left when the masked fraction is m, the next mask is replaced when it is ``m u**(1/k)``, with u
    uniform; the mask is chosen uniformly. The distribution is the limit of :func:`sample` with infinitely many steps.

    Parameters
    ----------
    score : callable
    graph : Absorbing
    shape, given, generator, device, callback, temperature, top_p, padding
        As for :func:`sample`; ``callback(k, x)`` gets the tokens after k masks are replaced.
    order : str
        ``"random"``, or ``"confidence"``: the next mask is the one whose most probable token has the highest
        probability at temperature 1. This changes the distribution.

    Returns
    -------
    Samples
        With one evaluation for each mask.

    Raises
    ------
    ValueError
        If the graph has no masks, or as for :func:`sample`.
    RuntimeError
        If scores are not finite.
    """
    if not isinstance(graph, Absorbing):
        raise ValueError(f"first hitting times are of masks: the graph must be Absorbing, got {graph}")
    confident, shape = _by_confidence(order), tuple(shape)
    sharp = sharpness(temperature, top_p, shape[:-1], device)
    restore, padding = restorer(given, padding, graph, shape, device)
    callback, batch, shape = _unflattened(callback, shape), shape[:-1], (math.prod(shape[:-1]), shape[-1])
    x = restore(graph.limit(shape, generator, device))
    options = {"generator": generator, "device": device, "dtype": torch.float64}
    fraction, counted = (
        torch.ones(shape[0], dtype=torch.float64, device=device),
        _Counted(score, graph, padding),
    )
    callback(0, x)
    for k in range(max((x == graph.mask).sum(-1).tolist(), default=0)):
        masked = x == graph.mask
        left = masked.sum(-1)
        fraction = fraction * torch.rand(shape[0], **options) ** (1 / left.clamp_min(1))
        log_score = graph.check_score(counted(x, -torch.log1p(-fraction.clamp_max(1 - 1e-9)), left > 0), x)
        if confident:
            where = _confidence(graph, log_score).masked_fill(~masked, -torch.inf).argmax(-1)
        else:
            where = (torch.rand(shape, **options) * masked).argmax(-1)
        weights = log_score[torch.arange(shape[0], device=device), where, : graph.tokens].double()
        weights = sharpened(weights, *sharp) if sharp else weights
        weights = (weights - weights.amax(-1, keepdim=True)).exp().masked_fill((left == 0).unsqueeze(-1), 1)
        try:
            drawn = categorical(weights, torch.rand(shape[0], **options))
        except ArithmeticError as error:
            raise RuntimeError(f"{error}, at mask {k}") from None
        x = torch.where(
            masked & (torch.arange(shape[1], device=device) == where.unsqueeze(-1)), drawn.unsqueeze(-1), x
        )
        callback(k + 1, x)
    return Samples(x.view(*batch, shape[-1]), (torch.zeros_like(x[:, 0]) + counted.evaluations).view(batch))


def sample_autoregressive(
    network,
    shape,
    start,
    *,
    generator=None,
    device="cpu",
    given=None,
    temperature=1.0,
    top_p=1.0,
    cached=False,
):
    """Sample from a causal network, one token after the other.

    Parameters
    ----------
    network : callable
        ``network(x)`` gives logits (B, L, states); states ``start`` and above are never drawn.
    shape : tuple of int
    start : int
        Stands before the first token, and is the number of real tokens.
    generator, device, temperature, top_p
        As for :func:`sample`.
    given : torch.Tensor of int64, shape (m,) or (B, m), optional
        The first tokens.
    cached : bool
        Keep keys and values of earlier tokens, with a network that takes ``cache=`` as
        :class:`~loupe.networks.transformer.Transformer` does: each token is then computed once.

    Returns
    -------
    Samples
    """
    sharp = sharpness(temperature, top_p, tuple(shape[:-1]), device)
    batch, shape = shape[:-1], (math.prod(shape[:-1]), shape[-1])
    x = torch.empty(shape[0], 0, dtype=torch.int64, device=device)
    if given is not None:
        if given.shape[-1] > shape[1] or (given.numel() and not (given.min() >= 0 and given.max() < start)):
            raise ValueError(
                f"given tokens must be at most {shape[1]}, numbers from 0 to {start - 1}, got {given.tolist()}"
            )
        given = given.to(device).long()
        x = given.reshape(-1, given.shape[-1]).expand(shape[0], -1)
    drawn, kept = 0, {"cache": {}} if cached else {}
    with torch.no_grad():
        while x.shape[1] < shape[1]:
            latest = x[:, -1:] if cached and drawn else pad(x, (1, 0), value=start)
            logits = network(latest, **kept)
            of_shape("the logits", logits, (*latest.shape, max(start, logits.shape[-1])))
            logits = logits[:, -1, :start]
            uniform = torch.rand(shape[0], generator=generator, device=device, dtype=torch.float64)
            probabilities = sharpened(logits.double(), *sharp).exp() if sharp else logits.double().softmax(-1)
            x = torch.cat([x, categorical(probabilities, uniform).unsqueeze(-1)], dim=1)
            drawn += 1
    return Samples(x.view(*batch, shape[1]), torch.full(batch, drawn, device=device))


class _Counted:
    """A score that counts its evaluations of each sequence."""

    def __init__(self, score, graph, padding):
        self.score, self.evaluations = score, 0
        self.padding = {} if padding is None else {"padding": padding}

    def __call__(self, x, total_noise, counts=1):
        self.evaluations = self.evaluations + torch.ones_like(x[:, 0]) * counts
        with torch.no_grad():
            return self.score(x, total_noise, **self.padding)


class _Cached(_Counted):
    """The same for a score whose dependence on noise is a known factor: only changed sequences are evaluated."""

    def __init__(self, score, graph, padding):
        if getattr(score, "needs_noise", True) or not isinstance(graph, Absorbing):
            raise ValueError(
                "cached samples need a Denoiser whose network does not take the noise (condition=0), or a score around "
                "one that has the attribute needs_noise = False"
            )
        super().__init__(score, graph, padding)
        self.graph, self.x, self.logs = graph, None, None

    def __call__(self, x, total_noise):
        changed = torch.ones_like(x[:, 0], dtype=torch.bool)
        if self.x is not None:
            # Where no mask is left, the outputs are unused.
            changed = (x != self.x).any(-1) & (x == self.graph.mask).any(-1)
        if self.x is None or changed.any():
            some = x[changed]
            # At this noise level the factor is 1: scores are probabilities.
            noise = torch.full_like(some[:, 0], math.log(2), dtype=torch.float64)
            padding = {name: each[changed] for name, each in self.padding.items()}
            with torch.no_grad():
                fresh = self.graph.check_score(self.score(some, noise, **padding), some)[..., :-1]
            self.logs = (
                fresh if self.x is None else self.logs.index_copy(0, changed.nonzero().squeeze(1), fresh)
            )
        self.x, self.evaluations = x, self.evaluations + changed.long()
        return scaled_score(self.logs, total_noise)


def expected_evaluations(steps, length):
    """Network evaluations for a text that :func:`sample` needs on average with masks and ``cached`` [3].

    ``n (1 - (1 - 1/n)**L)`` of n steps, for L tokens, since masks go at independent, uniformly distributed times.
    """
    return steps * (1 - (1 - 1 / steps) ** length)
