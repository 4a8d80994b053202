r"""The heat kernel of SU(3), relative to normalised Haar measure, as a function of the eigenangles or of the trace.

With Frobenius' metric it is a sum over geodesics, which ends early for small sigma ([1]),

.. math::

   K=\frac{16\sqrt3\pi^5e^{\sigma^2}}{(2\pi\sigma^2)^4}\sum_{s}\prod_{i<j}\frac{(a_i-a_j)/2}{\sin((a_i-a_j)/2)}
   e^{-|a|^2/2\sigma^2},\qquad a=\theta+2\pi s,

over whole s that sum to 0, of eigenangles that do; or a sum over characters, polynomials in the trace, for large sigma.
All of it is computed in float64.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
"""

import math

import torch

from loupe.derivatives import first_order, no_derivative, readable, slope
from loupe.diffusion.riemannian.radial import log_sine
from loupe.geometry.base import normal
from loupe.geometry.compact import SpecialUnitary
from loupe.geometry.matrices import adjoint, expm, product, unitary_spectrum

TURN = 2 * math.pi
SWITCH = 0.8
"""From this sigma on characters are summed, below it geodesics."""

LEVELS = 13
"""Characters of weights below it on each axis are summed."""

HAAR = 1.2
"""From this sigma on samples come from Haar-distributed proposals, below it from wrapped normal ones."""

_LOG_FRONT = math.log(16 * math.sqrt(3) * math.pi**5) - 4 * math.log(TURN)
_PAIRS = ((0, 1), (0, 2), (1, 2))
_SHIFTS = ((0, 0, 0), (1, -1, 0), (-1, 1, 0), (1, 0, -1), (-1, 0, 1), (0, 1, -1), (0, -1, 1))
"""Beside the shortest geodesic these can count; the next ones are below e^-60 of it."""

_CIRCLE = 12


def log_and_score(x, x0, sigma):
    """The log density at ``x``, and its gradient in ``x``, without derivatives.

    Parameters
    ----------
    x, x0 : torch.Tensor of complex128, shape (n, 3, 3)
    sigma : torch.Tensor of float64, shape (n,)
    """
    log, score = torch.empty_like(sigma), torch.empty_like(x)
    for early in (True, False):
        (chosen,) = torch.where((sigma < SWITCH) == early)
        if len(chosen):
            part = (_from_angles if early else _from_trace)(x[chosen], x0[chosen], sigma[chosen])
            log[chosen], score[chosen] = part
    return log, score


# --- geodesics ----------------------------------------------------------------------------------------------


def _from_angles(x, x0, sigma):
    _, angles, vectors = unitary_spectrum(product(adjoint(x0), x - x0))
    log, slopes = by_geodesics(angles, sigma)
    turn = 1j * (slopes - slopes.mean(-1, keepdim=True))
    return log, product(x, vectors * turn.unsqueeze(-2), adjoint(vectors))


def by_geodesics(angles, sigma):
    """The log of the kernel below :data:`SWITCH`, and its derivatives in the angles, each as if it were free.

    Parameters
    ----------
    angles : torch.Tensor of float64, shape (n, 3)
        They sum to 0 and are the shortest of those that differ by turns.
    sigma : torch.Tensor of float64, shape (n,)

    Returns
    -------
    log, slopes : torch.Tensor, shapes (n,) and (n, 3)
    """
    variance = sigma.square()
    log = _LOG_FRONT + variance - 8 * sigma.log() - angles.square().sum(-1) / (2 * variance)
    slopes = -angles / variance.unsqueeze(-1)
    # How much longer the nearest other geodesic is, in the exponent.
    margin = TURN * (TURN - (angles.amax(-1) - angles.amin(-1))) / variance
    alone = (margin > 45).unsqueeze(-1)
    rest, rest_slopes = _shortest(torch.where(alone, angles, 0.0))
    (some,) = torch.where(margin <= 45)
    if len(some):
        rest[some], rest_slopes[some] = _several(angles[some], variance[some])
    return log + rest, slopes + rest_slopes


def _shortest(angles):
    """The log of the product over pairs for the shortest geodesic alone, and its derivatives."""
    gaps = torch.stack([angles[:, i] - angles[:, j] for i, j in _PAIRS], -1)
    log_ratio, first, _ = log_sine(gaps.square() / 4)
    a, b, c = (gaps / 4 * first).unbind(-1)
    return -log_ratio.sum(-1), torch.stack([a + b, c - a, -b - c], -1)


def _several(angles, variance):
    """The same for all geodesics.

    Where angles differ by a full turn, or not at all, each term has a pole, and only the sum is finite. It is analytic, so
    its value is its mean over a circle of complex angles around it, on which all terms are harmless.
    """
    turns = (torch.arange(_CIRCLE, dtype=angles.dtype, device=angles.device) + 0.5) / _CIRCLE
    apart = torch.tensor([1.0, 0.0, -1.0], dtype=angles.dtype, device=angles.device)
    circle = (
        angles.unsqueeze(1) + variance[:, None, None] / 16 * (1j * TURN * turns).exp().unsqueeze(-1) * apart
    )
    total, slopes = _sum(circle, variance.unsqueeze(-1))
    value = total.real.mean(1)
    return value.log(), slopes.real.mean(1) / value.unsqueeze(-1)


def _sum(angles, variance):
    """The sum over geodesics, over the shortest one's Gaussian, and its derivatives; complex."""
    below, below_slopes = _triple(angles, torch.sin, torch.cos)
    steps = TURN * torch.tensor(_SHIFTS, dtype=angles.real.dtype, device=angles.device)
    angles, variance = angles.unsqueeze(-2), variance.unsqueeze(-1)
    above, above_slopes = _triple(angles + steps, lambda half: half, torch.ones_like)
    weight = (-((angles * steps).sum(-1) + steps.square().sum(-1) / 2) / variance).exp()
    total = (above * weight).sum(-1)
    moved_slopes = above_slopes - above.unsqueeze(-1) * steps / variance.unsqueeze(-1)
    slopes = (moved_slopes * weight.unsqueeze(-1)).sum(-2)
    quotient = total / below
    return quotient, (slopes - quotient.unsqueeze(-1) * below_slopes) / below.unsqueeze(-1)


def _triple(angles, function, derivative):
    """The product of a function of half of each gap, and its derivatives in the angles."""
    halves = [(angles[..., i] - angles[..., j]) / 2 for i, j in _PAIRS]
    f, g, h = map(function, halves)
    a, b, c = (derivative(half) / 2 for half in halves)
    a, b, c = a * g * h, f * b * h, f * g * c
    return f * g * h, torch.stack([a + b, c - a, -b - c], -1)


# --- characters ---------------------------------------------------------------------------------------------


def _from_trace(x, x0, sigma, levels=LEVELS):
    relative = product(adjoint(x0), x)
    trace = torch.view_as_real(relative.diagonal(dim1=-2, dim2=-1).sum(-1)).contiguous()
    log = by_characters(trace, sigma, levels)
    real, imaginary = slope(lambda at: by_characters(at, sigma, levels), trace).unbind(-1)
    back = torch.complex(real, imaginary)[:, None, None] * adjoint(relative)
    return log, SpecialUnitary(3).to_tangent(x, product(x, back))


def by_characters(trace, sigma, levels=LEVELS):
    """The log of the kernel from :data:`SWITCH` on.

    Parameters
    ----------
    trace : torch.Tensor of float64, shape (..., n, 2)
        Real and imaginary parts of the trace.
    sigma : torch.Tensor of float64, shape (n,)
    levels : int
        Characters of smaller weights on each axis are summed.
    """
    z = torch.view_as_complex(trace)
    rows = [torch.zeros_like(z), torch.zeros_like(z), torch.ones_like(z)]  # complete symmetric polynomials
    for _ in range(2 * levels):
        rows.append(z * rows[-1] - z.conj() * rows[-2] + rows[-3])
    h = torch.stack(rows, -1)
    p, q = torch.meshgrid(*[torch.arange(levels, device=sigma.device)] * 2, indexing="ij")
    characters = (h[..., p + q + 2] * h[..., q + 2] - h[..., p + q + 3] * h[..., q + 1]).real
    p, q = p.to(sigma), q.to(sigma)
    size = (p + 1) * (q + 1) * (p + q + 2) / 2
    eigenvalues = 2 / 3 * (p * p + q * q + p * q + 3 * p + 3 * q)
    decay = (-eigenvalues * sigma.square()[:, None, None] / 2).exp()
    return (size * characters * decay).sum((-2, -1)).clamp_min(1e-300).log()


# --- samples ------------------------------------------------------------------------------------------------


def sample(x0, sigma, generator=None):
    """Exact draws by rejection, shape of ``x0 (n, 3, 3)``."""
    x = torch.empty_like(x0)
    left = torch.arange(len(x0), device=x0.device)
    while len(left):
        # A few left have several tries at once: short rounds cost as much as long ones.
        tries = -(-256 // len(left))
        steps, accepted = _propose(sigma[left].repeat_interleave(tries), generator)
        accepted = accepted.reshape(-1, tries)
        done, first = accepted.any(1), accepted.double().argmax(1)
        chosen = torch.arange(len(left), device=x0.device) * tries + first
        x[left[done]] = steps[chosen[done]]
        left = left[~done]
    return product(x0, x)


def _propose(sigma, generator):
    """Matrices, and which of them are accepted; the others are not made."""
    n, group, dtype, device = len(sigma), SpecialUnitary(3), sigma.dtype, sigma.device
    draw = torch.rand(n, generator=generator, dtype=dtype, device=device).log()
    identity = torch.eye(3, dtype=torch.complex128, device=device).expand(n, 3, 3)
    haar, accepted = sigma >= HAAR, torch.zeros(n, dtype=torch.bool, device=device)
    step = identity.clone()
    if haar.any():
        step[haar] = group.random(int(haar.sum()), 3, 3, generator=generator, dtype=dtype, device=device)
        traces = torch.stack([step[haar].diagonal(dim1=-2, dim2=-1).sum(-1), 3 + 0 * step[haar][:, 0, 0]])
        log, most = by_characters(torch.view_as_real(traces), sigma[haar])
        accepted[haar] = log - most > draw[haar]
    if (near := ~haar).any():
        sigma = sigma[near]
        a = sigma.unsqueeze(-1) * normal((len(sigma), 8), generator, dtype, device)
        algebra = group.from_frame(identity[near], a)
        angles = torch.linalg.eigvalsh(-1j * algebra)
        # Each element of the group comes once from these.
        short = angles[:, -1] - angles[:, 0] < TURN
        angles = torch.where(short.unsqueeze(-1), angles, 0.0)
        log = torch.where(sigma < SWITCH, by_geodesics(angles, sigma.clamp_max(SWITCH))[0], torch.nan)
        (late,) = torch.where(sigma >= SWITCH)
        traces = torch.polar(torch.ones_like(angles), angles)[late].sum(-1)
        log[late] = by_characters(torch.view_as_real(traces), sigma[late])
        # The proposal's density relative to Haar measure is the normal one over the Jacobian of the exponential.
        log_normal = _LOG_FRONT - 8 * sigma.log() - angles.square().sum(-1) / (2 * sigma.square())
        log_ratio = log - log_normal - 2 * _shortest(angles)[0] - sigma.square() - math.log(1.1)
        accepted[near] = short & (log_ratio > draw[near])
        step[near] = algebra
        step[near & accepted] = expm(step[near & accepted])
    return step, accepted


class UnitaryKernel:
    """Log densities, scores and samples; see :class:`~loupe.diffusion.riemannian.radial.RadialKernel`.

    The log density has a first derivative, in ``x`` only; the score has none.
    """

    def __init__(self, manifold):
        self.manifold = manifold

    def evaluate(self, x, x0, sigma, terms=None):
        if not readable(x, x0, sigma) or torch._C._functorch.is_functorch_wrapped_tensor(x):
            raise RuntimeError(
                "the heat kernel of SU(3) runs neither under torch.func.vmap nor torch.compile, and its score has no "
                "divergence: call it on a batch, and take a network's score for likelihoods"
            )
        with torch.no_grad():
            flat = [a.to(torch.complex128).reshape(-1, 3, 3) for a in (x, x0)]
            if terms is None:
                log, score = log_and_score(*flat, sigma.reshape(-1))
            else:
                log, score = _from_trace(*flat, sigma.reshape(-1), terms)
            log, score = log.reshape(sigma.shape), score.reshape(x.shape).to(x.dtype)
        first = (score.conj() * (x - x.detach())).real.sum((-2, -1))
        log = log + first_order("the log heat kernel of SU(3)", first)
        for constant in (x0, sigma):
            log = no_derivative("the log heat kernel of SU(3), in anything but x,", log, constant)
            score = no_derivative("the score of SU(3)'s heat kernel", score, constant)
        return log, no_derivative("the score of SU(3)'s heat kernel", score, x)

    def sample(self, x0, sigma, generator=None):
        flat = x0.reshape(-1, 3, 3)
        return sample(flat.to(torch.complex128), sigma.reshape(-1), generator).reshape(x0.shape).to(x0.dtype)
