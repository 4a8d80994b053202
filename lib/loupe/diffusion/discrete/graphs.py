"""The two corruptions of tokens, absorbing and uniform: continuous-time Markov chains on each token independently.

States are numbered from 0. Rates and probabilities are columns of the paper's matrices: the column of a token's current
state lies on a new last axis. A *log-score* holds ``log p(x with y at i) / p(x)`` for every position i and state y,
shape ``(..., L, states)``; its entries at the tokens of x themselves are never used.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot

from loupe.checks import of_shape, whole
from loupe.derivatives import readable
from loupe.diffusion.discrete.draws import categorical, sharpened, sharpness
from loupe.diffusion.discrete.fused import row_sums, rows_of_piece, score_entropy_rows

METHODS = ("euler", "tweedie")


@dataclass(frozen=True)
class Graph:
    """The common part of :class:`Absorbing` and :class:`Uniform`."""

    tokens: int

    def __post_init__(self):
        object.__setattr__(self, "tokens", whole("tokens", self.tokens, 2))

    def rate(self, x):
        """Rates from ``x (...)`` to each state, shape (..., states), float64; they sum to 0."""
        raise NotImplementedError

    def rate_to(self, x):
        """Rates from each state to ``x (...)``, shape (..., states), float64."""
        raise NotImplementedError

    def transition(self, x, total_noise):
        """Probabilities of each state after ``total_noise (...)`` from ``x (..., L)``, shape (..., L, states), float64."""
        raise NotImplementedError

    def reverse_rate(self, log_score, x):
        """Rates of the reversed chain ([1], eq. 4), shape (..., L, states), float64.

        ``Q(x, y) s_y`` for each other state y, and minus their sum on the diagonal.
        """
        self.check_score(log_score, x)
        here = one_hot(x, self.states).bool()
        to = self.rate_to(x)
        # Entries with rate 0 are not used: infinite ones must not become 0 * inf.
        rates = torch.where(to > 0, to * log_score.double().exp(), 0)
        return torch.where(here, -rates.sum(-1, keepdim=True), rates)

    def euler_probabilities(self, log_score, x, step):
        """One step of tau-leaping ([1], eq. 17) over ``step (...)``, noise rate times time.

        Shape (..., L, states), float64; below 0 where the step is too long.
        """
        return one_hot(x, self.states) + noise_like(step, x).unsqueeze(-1) * self.reverse_rate(log_score, x)

    def tweedie_probabilities(self, log_score, x, step):
        """The best step that treats tokens independently ([1], theorem 4.2).

        ``(exp(-step Q) s)_y exp(step Q)(x, y)``, where ``step (...)`` is a difference of total noise. Shape (..., L,
        states), float64; inexact scores may give entries below 0.
        """
        raise NotImplementedError

    def denoise_probabilities(self, log_score, x, total_noise):
        """The last step, from ``total_noise (...)`` to 0, which leaves no mask; shape (..., L, states), float64."""
        found = self.tweedie_probabilities(log_score, x, total_noise).clamp_min(0)
        found[..., self.tokens :] = 0
        return found / found.sum(-1, keepdim=True)

    def probabilities(self, log_score, x, step, method):
        """Step probabilities of a method, ``"euler"`` or ``"tweedie"``."""
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        found = getattr(self, f"{method}_probabilities")(log_score, x, step)
        return found.clamp_min(0)

    def advance(self, log_score, x, step, *, method="tweedie", generator=None):
        """Draw one step of a method for every token: new tokens ``(..., L)``."""
        return self._draw(self.probabilities(log_score, x, step, method), generator)

    def denoise(self, log_score, x, total_noise, generator=None):
        """Draw the last step, which leaves no mask."""
        return self._draw(self.denoise_probabilities(log_score, x, total_noise), generator)

    def _draw(self, probabilities, generator):
        flat = probabilities.reshape(-1, self.states)
        uniform = torch.rand(len(flat), generator=generator, device=flat.device, dtype=torch.float64)
        return categorical(flat, uniform).view(probabilities.shape[:-1])

    def check_tokens(self, x, states, name):
        """Raise ValueError unless all of ``x`` are from 0 to ``states - 1``."""
        if x.dtype != torch.int64:
            raise ValueError(f"{name} must be of int64, got {x.dtype}: convert whole numbers with .long()")
        low, high = x.aminmax() if x.numel() and readable(x) else (0, 0)
        if low < 0 or high >= states:
            hint = f" ({self.tokens} is the mask)" if states == self.tokens < self.states else ""
            raise ValueError(f"{name} must be from 0 to {states - 1}, got {int(low)} to {int(high)}{hint}")

    def check_score(self, log_score, x):
        """The scores; ValueError unless there is one for each state at each of the tokens ``x (..., L)``."""
        if log_score.shape[-1] != self.states:
            hint = ", the last of them the mask" if self.states > self.tokens else ""
            raise ValueError(
                f"{self} has {self.states} states{hint}: the log-score must have as many, got {log_score.shape[-1]}"
            )
        return of_shape("the log-score", log_score, (*x.shape, self.states))

    def _loss_arguments(self, log_score, total_noise, x, x0):
        self.check_tokens(x, self.states, "x")
        self.check_tokens(x0, self.tokens, "x0")
        of_shape("x0", x0, x.shape)
        self.check_score(log_score, x)
        noise = noise_like(total_noise, x)
        if readable(noise) and not (noise > 0).all():
            raise ValueError(
                f"score entropy is infinite without noise: total_noise must be above 0, got {noise.min().item():g}"
            )
        return log_score.reshape(-1, self.states), noise.flatten(), x.flatten(), x0.flatten()


class Absorbing(Graph):
    """Every token turns into a mask at rate 1, and a mask stays one.

    Parameters
    ----------
    tokens : int
        N. The mask is an extra state, number N.
    """

    @property
    def states(self):
        """N + 1."""
        return self.tokens + 1

    @property
    def mask(self):
        """N, the number of the mask."""
        return self.tokens

    def rate(self, x):
        self.check_tokens(x, self.states, "x")
        return (one_hot(torch.full_like(x, self.mask), self.states) - one_hot(x, self.states)).double()

    def rate_to(self, x):
        self.check_tokens(x, self.states, "x")
        return (x == self.mask).unsqueeze(-1).double() - one_hot(x, self.states)

    def transition(self, x, total_noise):
        self.check_tokens(x, self.states, "x")
        masked = one_hot(torch.full_like(x, self.mask), self.states).double()
        kept = (-noise_like(total_noise, x)).exp().unsqueeze(-1)
        return kept * one_hot(x, self.states) + (1 - kept) * masked

    def corrupt(self, x0, total_noise, generator=None):
        """Tokens ``x0 (..., L)`` after ``total_noise (...)``: each is masked with probability ``1 - exp(-total_noise)``."""
        self.check_tokens(x0, self.tokens, "x0")
        draw = torch.rand(x0.shape, generator=generator, device=x0.device, dtype=torch.float64)
        return torch.where(draw < -torch.expm1(-noise_like(total_noise, x0)), self.mask, x0)

    def limit(self, shape, generator=None, device="cpu"):
        """The chain's limit: all masks, int64 of the given shape."""
        return torch.full(shape, self.mask, device=device)

    def prior_gap(self, total_noise):
        """``KL(p(x_T | x0) || base)`` of one token in nats, shape of ``total_noise``.

        The base is a mask, or with probability ``exp(-total_noise)`` (that of an unmasked token) a uniform token:
        against masks alone the divergence would be infinite.
        """
        return (-torch.as_tensor(total_noise, dtype=torch.float64)).exp() * math.log(self.tokens)

    def score_entropy(self, log_score, total_noise, x, x0):
        """Denoising score entropy of each token in nats, without the noise rate ([1], theorems 3.4 and 3.6).

        ``sum_y s_y - r log s_x0 + r (log r - 1)`` with ``r = 1 / expm1(total_noise)`` at masks, 0 elsewhere.

        Parameters
        ----------
        log_score : torch.Tensor, shape (..., L, states)
            Differentiable; computed in at least float32.
        total_noise : torch.Tensor, shape (...)
            Above 0.
        x, x0 : torch.Tensor of int64, shape (..., L)
            The corrupted tokens, and the clean ones.

        Returns
        -------
        torch.Tensor, shape (..., L)
            float64 if the log-score is, else float32.

        Raises
        ------
        ValueError
            If shapes do not match, a token is out of range, or there is no noise.
        """
        flat, noise, state, token = self._loss_arguments(log_score, total_noise, x, x0)
        r = 1 / torch.expm1(noise)
        masked = state == self.mask
        return score_entropy_rows(flat, masked, state, token, None, r, r * (r.log() - 1)).view(x.shape)

    def tweedie_probabilities(self, log_score, x, step):
        # A mask turns into y with probability expm1(step) s_y: an Euler step of another length.
        return self.euler_probabilities(log_score, x, noise_like(step, x)[..., 0].expm1())

    def advance(self, log_score, x, step, *, method="tweedie", generator=None, **choice):
        """As for every graph, but only masked rows are read, and the draw is made in two parts.

        The first decides which masks are replaced, the second by which tokens.

        Parameters
        ----------
        temperature, top_p : float or torch.Tensor, shape (...), optional
            How the distribution of new tokens is :func:`~loupe.diffusion.discrete.sharpened`; they do not affect which
            masks are replaced.
        confidence : torch.Tensor, shape (..., L), optional
            As many masks are replaced, but those with the highest confidence.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        length = noise_like(step, x)
        return self._unmask(
            log_score, x, length if method == "euler" else length.expm1(), generator, **choice
        )

    def denoise(self, log_score, x, total_noise=None, generator=None, **choice):
        return self._unmask(
            log_score, x, torch.full(x.shape, torch.inf, dtype=torch.float64), generator, **choice
        )

    def _unmask(self, log_score, x, factor, generator, temperature=1.0, top_p=1.0, confidence=None):
        self.check_score(log_score, x)
        self.check_tokens(x, self.states, "x")
        sharp = sharpness(temperature, top_p, x.shape[:-1], x.device)
        flat, states = log_score.reshape(-1, self.states), x.flatten().clone()
        # Random numbers for every token, masked or not: so one token's numbers do not depend on the others.
        uniform = torch.rand(x.numel(), 2, generator=generator, device=x.device, dtype=torch.float64)
        masked = states == self.mask
        sums = row_sums(flat, masked, self.tokens)
        if not ((sums > 0) & (sums < torch.inf))[masked].all():
            raise ArithmeticError("scores of masks must be finite and not all 0 at any of them")
        going = masked & (uniform[:, 0] < factor.to(x.device).flatten() * sums)
        if confidence is not None:
            sure = confidence.masked_fill(~masked.view(x.shape), -torch.inf)
            place = sure.argsort(dim=-1, descending=True, stable=True).argsort(-1)
            going = masked & (place < going.view(x.shape).sum(-1, keepdim=True)).flatten()
        for some in going.nonzero().squeeze(1).split(rows_of_piece(flat)):
            weights = flat.index_select(0, some)[:, : self.tokens].double()
            if sharp is not None:
                weights = sharpened(weights, *(each[some // x.shape[-1]] for each in sharp))
            states[some] = categorical(weights.exp(), uniform[some, 1])
        return states.view(x.shape)


class Uniform(Graph):
    """Every token turns into any other at rate 1 / N.

    Parameters
    ----------
    tokens : int
        N, which is also the number of states.
    """

    @property
    def states(self):
        """N."""
        return self.tokens

    def rate(self, x):
        self.check_tokens(x, self.states, "x")
        return 1 / self.tokens - one_hot(x, self.states).double()

    def rate_to(self, x):
        return self.rate(x)  # the matrix is symmetric

    def transition(self, x, total_noise):
        self.check_tokens(x, self.states, "x")
        noise = noise_like(total_noise, x).unsqueeze(-1)
        return (-noise).exp() * one_hot(x, self.states) - torch.expm1(-noise) / self.tokens

    def corrupt(self, x0, total_noise, generator=None):
        """Tokens ``x0 (..., L)`` after ``total_noise (...)``: each is redrawn with probability ``1 - exp(-noise)``."""
        self.check_tokens(x0, self.tokens, "x0")
        draw = torch.rand(x0.shape, generator=generator, device=x0.device, dtype=torch.float64)
        fresh = self.limit(x0.shape, generator, x0.device)
        return torch.where(draw < -torch.expm1(-noise_like(total_noise, x0)), fresh, x0)

    def limit(self, shape, generator=None, device="cpu"):
        """The chain's limit: independent uniform tokens, int64 of the given shape."""
        return torch.randint(self.tokens, shape, generator=generator, device=device)

    def prior_gap(self, total_noise):
        """``KL(p(x_T | x0) || uniform)`` of one token in nats, shape of ``total_noise``."""
        noise, N = torch.as_tensor(total_noise, dtype=torch.float64), self.tokens
        other = -torch.expm1(-noise) / N
        own = (-noise).exp() + other
        # p log(N p), summed over the token itself and the others
        return torch.xlogy(own, N * own) + (N - 1) * torch.xlogy(other, N * other)

    def score_entropy(self, log_score, total_noise, x, x0):
        """Denoising score entropy of each token in nats, without the noise rate ([1], theorems 3.4 and 3.6).

        ``(1/N) sum_{y != x} s_y - r_y log s_y + r_y (log r_y - 1)``. With ``e = expm1(total_noise)`` the ratios
        ``r_y`` are ``e / (e + N)`` at an unchanged token; at a changed one they are 1, and ``1 + N / e`` for the clean
        token. Arguments as for :meth:`Absorbing.score_entropy`.
        """
        flat, noise, state, token = self._loss_arguments(log_score, total_noise, x, x0)
        e = torch.expm1(noise)
        # Not 1 - N / (e + N), which cancels for small noise and many tokens.
        rho = e / (e + self.tokens)
        kept = state == token
        others = torch.where(kept, rho, 1.0)
        extra = torch.where(kept, 0.0, self.tokens / e)
        constant = torch.where(
            kept, (self.tokens - 1) * rho * (rho.log() - 1), -(rho.log() + 1) / rho - (self.tokens - 2)
        )
        values = score_entropy_rows(flat, None, state, token, others, extra, constant)
        return (values / self.tokens).view(x.shape)

    def tweedie_probabilities(self, log_score, x, step):
        self.check_score(log_score, x)
        self.check_tokens(x, self.states, "x")
        step, N = noise_like(step, x).unsqueeze(-1), self.tokens
        here = one_hot(x, N).bool()
        s = log_score.double().masked_fill(here, 0).exp()
        # 1 + grown (s_y - mean s) and so on: nothing cancels when the step is small.
        grown = step.expm1()
        back = s + grown * (s - s.mean(-1, keepdim=True))
        return back * ((-step).exp() * here - torch.expm1(-step) / N)

    def sharpen(self, log_score, x, total_noise, temperature=1.0, top_p=1.0):
        """The log-score for sharpened probabilities of clean tokens.

        Let ``q(y)`` be the probability of the clean token y given all other tokens. Scores are proportional to
        ``exp(-noise) q(y) + (1 - exp(-noise)) / N``. This is solved for q, which is
        :func:`~loupe.diffusion.discrete.sharpened` and turned back into scores. (With masks q is the score itself, up
        to a factor.) If inexact scores give negative q, it is set to 0.

        Parameters
        ----------
        log_score : torch.Tensor, shape (..., L, N)
        x : torch.Tensor of int64, shape (..., L)
        total_noise : torch.Tensor, shape (...), or float
            Above 0.
        temperature, top_p : float or torch.Tensor, shape (...)

        Returns
        -------
        torch.Tensor, shape (..., L, N), float64
        """
        self.check_score(log_score, x)
        here, noise = x.unsqueeze(-1), noise_like(total_noise, x).unsqueeze(-1)
        kept, fresh = (-noise).exp(), -torch.expm1(-noise) / self.tokens
        clean = (log_score.double().scatter(-1, here, 0).softmax(-1) - fresh).clamp_min(0).log()
        temperature, top_p = (torch.as_tensor(each).unsqueeze(-1) for each in (temperature, top_p))
        logs = (kept * sharpened(clean, temperature, top_p).exp() + fresh).log()
        return logs - logs.gather(-1, here)


def noise_like(noise, x):
    """``noise (...)``, one for all or one for each sequence, as float64 in the shape of ``x (..., L)``."""
    noise = torch.as_tensor(noise, dtype=torch.float64, device=x.device)
    if readable(noise) and not (noise >= 0).all():
        raise ValueError(f"noise must be at least 0, got {noise.min().item():g}")
    if noise.dim() and noise.shape not in (x.shape[:-1], (1,)):
        raise ValueError(
            f"noise must be one number or one for each sequence, of shape {tuple(x.shape[:-1])}, got {tuple(noise.shape)}"
        )
    return (noise if noise.dim() == 0 else noise.unsqueeze(-1)).expand(x.shape)
