"""Functions of a square or of a distance, smooth where their usual form is 0/0.

``tanh(r) / r`` and similar functions are analytic in ``r**2``, but written with a root they give nan at 0, and their
derivatives lose all digits near it. Here they are functions of ``r**2``: a Taylor series below a threshold, the closed
form above it. Each branch sees only safe arguments, so gradients are finite too.
"""

import torch

NEAR = 1e-2
"""Smaller arguments use the series: ten terms are accurate to float64, while the closed form loses two digits."""

_TERMS = 10


def _coefficients(ratio):
    """Coefficients of a power series from ratios of successive ones, starting at 1."""
    row = [1.0]
    for k in range(1, _TERMS):
        row.append(row[-1] * ratio(k))
    return tuple(row)


HALF = _coefficients(lambda k: -2 * k / (2 * k + 1))
"""Coefficients of arsinh(sqrt t) / sqrt(t (1 + t)) in powers of t: 1, -2/3, 8/15, -16/35, ..."""

_TANH = (1, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075, -929569 / 638512875)
_ARTANH = tuple(1 / (2 * k + 1) for k in range(_TERMS))
_SINH = _coefficients(lambda k: 1 / (2 * k * (2 * k + 1)))
_COSH = _coefficients(lambda k: 1 / (2 * k * (2 * k - 1)))
_SIN = tuple((-1) ** k * a for k, a in enumerate(_SINH))
_COS = tuple((-1) ** k * a for k, a in enumerate(_COSH))
_ARCSIN = tuple(a / (2 * k + 1) for k, a in enumerate(_coefficients(lambda k: (2 * k - 1) / (2 * k))))
_ARCSIN_SQUARE = tuple(abs(a) / (k + 1) for k, a in enumerate(HALF))
_ARSINH_SQUARE = tuple(a / (k + 1) for k, a in enumerate(HALF))


def power_series(coefficients, t):
    """The polynomial with these coefficients, lowest first, at ``t``."""
    value = torch.full_like(t, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * t + coefficient
    return value


def _smooth(coefficients, closed, t):
    near = t < NEAR
    series = power_series(coefficients, torch.where(near, t, 0.0))
    return torch.where(near, series, closed(torch.where(near, 1.0, t)))


def tanh_ratio(square):
    """tanh(r) / r as a function of ``r**2``; nan where ``r**2`` overflows."""
    ratio = _smooth(_TANH, lambda s: s.sqrt().tanh() / s.sqrt(), square)
    return ratio + torch.where(ratio == 0, torch.nan, 0.0).to(ratio.dtype)


def artanh_ratio(square):
    """artanh(r) / r as a function of ``r**2 < 1``."""
    near = square < NEAR
    series = power_series(_ARTANH, torch.where(near, square, 0.0))
    root = torch.where(near, 0.5, square).sqrt()
    return torch.where(near, series, root.atanh() / root)


def sinh_ratio(square):
    """sinh(r) / r as a function of ``r**2``."""
    return _smooth(_SINH, lambda s: s.sqrt().sinh() / s.sqrt(), square)


def log_sinh_ratio(square):
    """log(sinh(r) / r) as a function of ``r**2``; r may have any size."""
    near = square < 1
    far = torch.where(near, 1.0, square).sqrt()
    close = sinh_ratio(torch.where(near, square, 0.0)).log()
    return torch.where(near, close, far + (-(-2 * far).expm1() / (2 * far)).log())


def cosh_root(square):
    """cosh(r) as a function of ``r**2``."""
    return _smooth(_COSH, lambda s: s.sqrt().cosh(), square)


def sin_ratio(square):
    """sin(r) / r as a function of ``r**2``."""
    return _smooth(_SIN, lambda s: s.sqrt().sin() / s.sqrt(), square)


def cos_root(square):
    """cos(r) as a function of ``r**2``."""
    return _smooth(_COS, lambda s: s.sqrt().cos(), square)


def arsinh_root(t):
    """arsinh(sqrt t), accurate to a few ulps for every ``t >= 0``; not differentiable at 0."""
    root = t.sqrt()
    # torch.asinh costs eight times as much and loses digits in float32.
    return torch.log1p(root + t / (1 + (1 + t).sqrt()))


def arsinh_square(t):
    """arsinh(sqrt t)**2: a quarter of the squared distance in hyperbolic space of curvature -1."""
    near = t < NEAR
    safe = torch.where(near, t, 0.0)
    endless = t == torch.inf
    far = arsinh_root(torch.where(near | endless, 1.0, t)) ** 2 + torch.where(endless, torch.inf, 0.0).to(
        t.dtype
    )
    return torch.where(near, safe * power_series(_ARSINH_SQUARE, safe), far)


def arcsin_square(t, rest=None):
    """arcsin(sqrt t)**2 for ``0 <= t <= 1``: a quarter of the squared distance on the unit sphere.

    ``rest`` is ``1 - t``, if it is known more accurately than the difference.
    """
    near = t < NEAR
    safe = torch.where(near, t, 0.0)
    return torch.where(near, safe * power_series(_ARCSIN_SQUARE, safe), _angle(t, rest, near)[0] ** 2)


def arsinh_ratio(t):
    """arsinh(sqrt t) / sqrt(t (1 + t)): the derivative of :func:`arsinh_square`, and distance over its sinh."""
    return _smooth(HALF, lambda s: arsinh_root(s) / (s * (1 + s)).sqrt(), t)


def arcsin_ratio(t, rest=None):
    """arcsin(sqrt t) / sqrt(t (1 - t)): the derivative of :func:`arcsin_square`, and an angle over its sine.

    ``rest`` as there; where it is 0 the ratio is infinite, and 0 is returned.
    """
    near = t < NEAR
    series = power_series(tuple(abs(a) for a in HALF), torch.where(near, t, 0.0))
    angle, product = _angle(t, rest, near)
    some = product > 0
    return torch.where(near, series, torch.where(some, angle / torch.where(some, product, 1.0), 0.0))


def _angle(t, rest, near):
    """arcsin(sqrt t) from both legs, which keeps the shorter one accurate, and the product of the legs."""
    far = torch.where(near, 0.5, t)
    rest = 1 - far if rest is None else torch.where(near, 0.5, rest)
    some = rest > 0
    sine, cosine = far.sqrt(), torch.where(some, torch.where(some, rest, 1.0).sqrt(), 0.0)
    return torch.atan2(sine, cosine), sine * cosine


def angle_ratio(square, cosine):
    """r / sin(r) as a function of ``sin(r)**2`` and ``cos(r) >= 0``."""
    near = square < NEAR
    series = power_series(_ARCSIN, torch.where(near, square, 0.0))
    sine = torch.where(near, 1.0, square).sqrt()
    return torch.where(near, series, torch.atan2(sine, torch.where(near, 1.0, cosine)) / sine)


def arsinh_bend(t):
    """Minus the logarithmic derivative of :func:`arsinh_ratio`."""
    h = arsinh_ratio(t)
    near = t < NEAR
    slopes = tuple(-k * a for k, a in enumerate(HALF))[1:]
    series = power_series(slopes, torch.where(near, t, 0.0))
    far = torch.where(near, 1.0, t)
    closed = (torch.where(near, 1.0, h) * (1 + 2 * far) - 1) / (2 * far * (1 + far))
    return torch.where(near, series, closed) / h
