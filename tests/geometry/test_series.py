"""The analytic functions of a square against fifty digits: values, derivatives, and the seam between two branches."""

import math

import pytest
import torch
from mpmath import mp, mpf

from loupe.geometry import series

SEAM = series.NEAR


def root_of(function):
    """As a function of the square, by the root: fifty digits make good what cancels."""
    return lambda s: function(mp.sqrt(s))


def ratio(function, limit=1):
    return lambda s: mpf(limit) if s == 0 else function(mp.sqrt(s)) / mp.sqrt(s)


TRUTH = {
    "tanh_ratio": ratio(mp.tanh),
    "artanh_ratio": ratio(mp.atanh),
    "sinh_ratio": ratio(mp.sinh),
    "cosh_root": root_of(mp.cosh),
    "sin_ratio": ratio(mp.sin),
    "cos_root": root_of(mp.cos),
    "arsinh_square": lambda t: mp.asinh(mp.sqrt(t)) ** 2,
    "arcsin_square": lambda t: mp.asin(mp.sqrt(t)) ** 2,
    "arsinh_ratio": lambda t: mpf(1) if t == 0 else mp.asinh(mp.sqrt(t)) / mp.sqrt(t * (1 + t)),
    "arcsin_ratio": lambda t: mpf(1) if t == 0 else mp.asin(mp.sqrt(t)) / mp.sqrt(t * (1 - t)),
}
BELOW_ONE = ("artanh_ratio", "arcsin_square", "arcsin_ratio")
SMALL = [
    0.0,
    1e-20,
    1e-12,
    1e-8,
    1e-5,
    1e-3,
    5e-3,
    SEAM * (1 - 1e-9),
    SEAM,
    SEAM * (1 + 1e-9),
    0.02,
    0.1,
    0.3,
]
WITHIN = [0.5, 0.9, 0.99, 0.999]
LARGE = [1.0, 2.0, 7.5, 30.0, 1e3, 1e5, 4e5, 1e6]
DIGITS = {torch.float64: 1e-14, torch.float32: 2e-6}


def arguments(name, dtype):
    numbers = SMALL + (WITHIN if name in BELOW_ONE else LARGE)
    if name in ("sinh_ratio", "cosh_root"):  # exp(1000) is no double, exp(100) no single
        numbers = [s for s in numbers if s <= (4e5 if dtype == torch.float64 else 1e3)]
    return torch.tensor(numbers, dtype=dtype)


def exact(name, t, order=0):
    """Of the number that the tensor holds, not of the decimal that was typed."""
    f = TRUTH[name]
    with mp.workdps(60):
        t = mpf(t)
        if order == 0:
            return f(t)
        if t < mpf("1e-3"):
            # Differences across 0 need the root of a negative number; the Taylor series there does not.
            return mp.re(mp.diff(lambda s: f(mp.mpc(s)), t, order, h=mpf(10) ** -15))
        return mp.diff(f, t, order, h=t * mpf(10) ** -15)


def conditioning(name, t):
    """How many units in the last place one of the argument may cost: at least one."""
    with mp.workdps(40):
        if t == 0:
            return 1.0
        f = TRUTH[name](mpf(t))
        return max(1.0, float(abs(exact(name, t, 1) * t / f))) if f else 1.0


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
@pytest.mark.parametrize("name", TRUTH)
def test_values_have_all_digits(name, dtype):
    t = arguments(name, dtype)
    for number, value in zip(t.tolist(), getattr(series, name)(t).tolist(), strict=True):
        truth = exact(name, number)
        # sine and cosine pass through 0: there the absolute error counts.
        scale = max(abs(float(truth)), 1 / max(1.0, math.sqrt(number)) if name[:3] in ("sin", "cos") else 0.0)
        error = abs(float(value - truth))
        assert error <= DIGITS[dtype] * conditioning(name, number) * scale, (number, value, truth)


@pytest.mark.parametrize("name", TRUTH)
def test_derivatives_have_twelve_digits(name):
    t = arguments(name, torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(getattr(series, name)(t).sum(), t, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), t)
    for number, first, second in zip(t.tolist(), slope.tolist(), bend.tolist(), strict=True):
        factor = conditioning(name, number)
        truth = float(exact(name, number, 1))
        # Above the seam the closed form may lose the digits that the seam is there to bound.
        assert first == pytest.approx(truth, rel=1e-12 * factor, abs=1e-300), (number, first, truth)
        truth = float(exact(name, number, 2))
        assert second == pytest.approx(truth, rel=1e-9 * factor, abs=1e-300), (number, second, truth)


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
@pytest.mark.parametrize("name", TRUTH)
def test_branches_meet(name, dtype):
    seam = torch.tensor(SEAM, dtype=dtype)
    sides = torch.stack(
        [torch.nextafter(seam, seam * 0), seam, torch.nextafter(seam, seam * 2)]
    ).requires_grad_()
    values = getattr(series, name)(sides)
    (slopes,) = torch.autograd.grad(values.sum(), sides)
    eps = torch.finfo(dtype).eps
    assert (values.max() - values.min()).item() < 4 * eps * values.max().item()
    assert (slopes.max() - slopes.min()).item() < 1e3 * eps * slopes.abs().max().item()


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
@pytest.mark.parametrize("name", TRUTH)
def test_rounding_below_zero_is_harmless(name, dtype):
    t = torch.tensor([-1e-18, -1e-30], dtype=dtype, requires_grad=True)
    value = getattr(series, name)(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    assert torch.isfinite(value).all()
    torch.testing.assert_close(
        slope, torch.full_like(slope, float(exact(name, 0.0, 1))), rtol=4 * torch.finfo(dtype).eps, atol=0
    )


@pytest.mark.parametrize("name", TRUTH)
def test_gradients_pass_gradcheck(name):
    t = torch.tensor([0.0, 1e-3, SEAM - 1e-4, SEAM + 1e-4, 0.3, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(series, name), t)


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
def test_inverse_sine_of_root_keeps_digits_over_forty_decades(dtype):
    t = torch.logspace(-20, 20, 81, dtype=dtype)
    for number, value in zip(t.tolist(), series.arsinh_root(t).tolist(), strict=True):
        with mp.workdps(60):
            truth = mp.asinh(mp.sqrt(mpf(number)))
        assert abs(float(value / truth - 1)) < 4 * torch.finfo(dtype).eps


def test_power_series_is_horner():
    t = torch.tensor([0.0, 0.5, -2.0], dtype=torch.float64)
    torch.testing.assert_close(series.power_series((3, -1, 2), t), 3 - t + 2 * t * t)
