"""The derivative of a minimizer: closed forms, constraints that move, and finite differences of a solved problem."""

import pytest
import torch

from loupe.geometry import (
    Hyperboloid,
    PoincareBall,
    Sphere,
    frechet_mean,
    implicit_argmin_vjp,
    lorentz,
    to_hyperboloid,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vjp_of(function, params, cotangent):
    """By autograd through a function that is known in closed form."""
    params = [p.clone().requires_grad_() for p in params]
    return torch.autograd.grad(function(*params), params, cotangent, allow_unused=True)


@pytest.mark.parametrize("d", [1, 4])
def test_quadratic_form(d):
    """argmin of y A y / 2 - b y is A^-1 b."""
    half, b, g = normal(d, d), normal(d, seed=1), normal(d, seed=2)
    A = half @ half.T + torch.eye(d, dtype=torch.float64)
    found = implicit_argmin_vjp(lambda y, A, b: y @ A @ y / 2 - b @ y, torch.linalg.solve(A, b), [A, b])(g)
    wanted = vjp_of(lambda A, b: torch.linalg.solve((A + A.T) / 2, b), [A, b], g)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_linear_constraint_that_moves():
    """The nearest point to a on the hyperplane n y = s."""
    a, n, s, g = normal(3), normal(3, seed=1), torch.tensor(0.7, dtype=torch.float64), normal(3, seed=2)

    def nearest(a, n, s):
        return a + (s - n @ a) / (n @ n) * n

    found = implicit_argmin_vjp(
        lambda y, a, n, s: (y - a).square().sum(),
        nearest(a, n, s),
        [a, n, s],
        constraint=lambda y, a, n, s: (n @ y - s)[None],
    )(g)
    for one, other in zip(found, vjp_of(nearest, [a, n, s], g), strict=True):
        torch.testing.assert_close(one, other)
        assert one.shape == other.shape


def test_a_curved_constraint_that_moves():
    """The nearest point to a on the sphere of radius r: the multiplier times the constraint's curvature counts."""
    a, r, g = 2 * normal(4), torch.tensor(0.6, dtype=torch.float64), normal(4, seed=1)

    def nearest(a, r):
        return r * a / a.norm()

    found = implicit_argmin_vjp(
        lambda y, a, r: (y - a).square().sum(),
        nearest(a, r),
        [a, r],
        constraint=lambda y, a, r: (y @ y - r * r)[None],
    )(g)
    for one, other in zip(found, vjp_of(nearest, [a, r], g), strict=True):
        torch.testing.assert_close(one, other)


def test_two_constraints():
    """The nearest point to a on a circle: the sphere of radius r at height h."""
    a, r, h = normal(3), torch.tensor(1.3, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)

    def nearest(a, r, h):
        return torch.cat([(r * r - h * h).sqrt() * a[:2] / a[:2].norm(), h[None]])

    found = implicit_argmin_vjp(
        lambda y, a, r, h: (y - a).square().sum(),
        nearest(a, r, h),
        [a, r, h],
        constraint=lambda y, a, r, h: torch.stack([y @ y - r * r, y[2] - h]),
    )(normal(3, seed=5))
    for one, other in zip(found, vjp_of(nearest, [a, r, h], normal(3, seed=5)), strict=True):
        torch.testing.assert_close(one, other)


def test_the_product_is_linear_and_may_be_taken_again():
    a, g = normal(3), normal(3, seed=1)
    vjp = implicit_argmin_vjp(lambda y, a: ((y - a) ** 4 + (y - a) ** 2).sum(), a, [a])
    torch.testing.assert_close(vjp(2 * g)[0], 2 * vjp(g)[0])
    torch.testing.assert_close(vjp(g)[0], g)


# ---- Fréchet means by the general theorem


def cluster(manifold, n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    centre = manifold.random(1, d, generator=generator, dtype=torch.float64).expand(n, d)
    x = manifold.exp(centre, 0.5 * manifold.random_tangent(centre, generator=generator))
    return x, torch.rand(n, generator=generator, dtype=torch.float64) + 0.1


def check_mean(manifold, d, seed, constraint=None, tangential=lambda x, g: g):
    x, w = cluster(manifold, 5, d, seed)
    mean = frechet_mean(x, w, manifold)
    g = normal(d, seed=seed + 50)
    # A cotangent along the normal asks how the mean leaves the manifold: it does not.
    g = tangential(mean, g)
    inputs = [a.clone().requires_grad_() for a in (x, w)]
    wanted = torch.autograd.grad(frechet_mean(*inputs, manifold), inputs, g)
    found = implicit_argmin_vjp(
        lambda y, x, w: (w * manifold.squared_dist(x, y)).sum(), mean, [x, w], constraint=constraint
    )(g)
    torch.testing.assert_close(tangential(x, found[0]), tangential(x, wanted[0]), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [1, 2, 5])
def test_mean_in_the_ball(d, seed):
    check_mean(PoincareBall(-0.7), d, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [2, 3, 8])
def test_mean_on_the_sphere(d, seed):
    check_mean(Sphere(), d, seed, lambda y, x, w: (y @ y - 1)[None], Sphere().to_tangent)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [2, 4])
def test_mean_and_curvature_on_the_hyperboloid(d, seed):
    """The constraint moves with the curvature; both sides use arcosh(K <x, y>), also off the manifold."""
    K = torch.tensor(-0.7, dtype=torch.float64)
    x, w = cluster(PoincareBall(-0.7), 5, d - 1, seed)
    x = to_hyperboloid(x, K)
    mean, g = frechet_mean(x, w, Hyperboloid(K)), normal(d, seed=seed)

    def objective(y, x, w, K):
        return (w * torch.acosh(K * lorentz(x, y)[..., 0]).square()).sum() / -K

    def constraint(y, x, w, K):
        return lorentz(y, y) - 1 / K

    found = implicit_argmin_vjp(objective, mean, [x, w, K], constraint=constraint)(g)
    inputs = [a.clone().requires_grad_() for a in (x, w, K)]
    wanted = torch.autograd.grad(frechet_mean(*inputs[:2], Hyperboloid(inputs[2])), inputs, g)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_mean_on_the_sphere_against_differences():
    sphere = Sphere()
    x, w = cluster(sphere, 4, 3, 1)
    g = normal(3, seed=2)
    vjp = implicit_argmin_vjp(
        lambda y, x, w: (w * sphere.squared_dist(x, y)).sum(),
        frechet_mean(x, w, sphere),
        [x, w],
        constraint=lambda y, x, w: (y @ y - 1)[None],
    )
    by_x, by_w = vjp(g)
    step, dx = 1e-4, sphere.random_tangent(x, generator=torch.Generator().manual_seed(3))
    dw = normal(4, seed=4)

    def along(h):
        return g @ frechet_mean(sphere.exp(x, h * dx), w + h * dw, sphere)

    fourth = (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step)
    torch.testing.assert_close((by_x * dx).sum() + by_w @ dw, fourth, rtol=1e-7, atol=1e-9)


# ---- errors


def squared(y, a):
    return (y - a).square().sum()


def test_a_point_that_is_not_stationary_is_refused():
    a = normal(3)
    with pytest.raises(
        ValueError, match=r"must be a minimizer on the constraint: the gradient left over is \d"
    ):
        implicit_argmin_vjp(squared, a + 1e-3, [a])
    with pytest.raises(ValueError, match="gradient left over is nan"):
        implicit_argmin_vjp(squared, a * torch.nan, [a])


def test_a_point_off_the_constraint_is_refused():
    a = normal(3)
    with pytest.raises(ValueError, match=r"the constraint misses 0 by 0\.5"):
        implicit_argmin_vjp(squared, a, [a], constraint=lambda y, a: (y - a)[:1] + 0.5)


@pytest.mark.parametrize(
    "bad", [torch.zeros(3), torch.zeros(2, 3, dtype=torch.float64)], ids=["float32", "matrix"]
)
def test_precision_and_shape_are_named(bad):
    with pytest.raises(ValueError, match=rf"float64 of shape \(d,\), got {bad.dtype} of shape"):
        implicit_argmin_vjp(squared, bad, [bad])
