"""The rival averages and single steps: closed forms, both charts, and descent to the mean that the solver finds."""

import pytest
import torch

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    ball_step,
    einstein_midpoint,
    frechet_mean,
    gradient_step,
    hyperboloid_step,
    karcher_flow,
    karcher_step,
    lorentz,
    riemannian_gradient_descent,
    tangent_mean,
    to_ball,
    to_hyperboloid,
)

CURVATURES = (-1.0, -0.5, -2.3)
curvatures = pytest.mark.parametrize("K", CURVATURES)
seeds = pytest.mark.parametrize("seed", range(3))


def problem(K, seed=0, shape=(4, 6, 3), dtype=torch.float64):
    """Points of the ball as far out as 0.95 of its radius, and weights."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    radius = 0.95 * torch.rand(*shape[:-1], 1, generator=generator, dtype=torch.float64)
    w = torch.rand(*shape[:-1], generator=generator, dtype=torch.float64) + 0.1
    return (x / x.norm(dim=-1, keepdim=True) * radius * (-K) ** -0.5).to(dtype), w.to(dtype)


def cost(manifold, x, w, y):
    return (w * manifold.squared_dist(x, y.unsqueeze(-2))).sum(-1)


@curvatures
@seeds
def test_ball_steps_descend_to_the_mean(K, seed):
    ball = PoincareBall(K)
    x, w = problem(K, seed)
    mean, before = x[:, 0], None
    for _ in range(300):
        now = cost(ball, x, w, mean)
        assert before is None or (now <= before * (1 + 1e-14)).all()
        mean, before = ball_step(x, w, mean, ball), now
    torch.testing.assert_close(mean, frechet_mean(x, w, ball), rtol=0, atol=1e-12)


@curvatures
@seeds
def test_steps_of_both_charts_are_one_iteration(K, seed):
    ball, sheet = PoincareBall(K), Hyperboloid(K)
    x, w = problem(K, seed)
    X, mean = to_hyperboloid(x, K), x[:, 0]
    lifted = X[:, 0]
    for _ in range(5):
        mean, lifted = ball_step(x, w, mean, ball), hyperboloid_step(X, w, lifted, sheet)
        sheet.check(lifted)
        torch.testing.assert_close(to_ball(lifted, K), mean, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_steps_do_not_depend_on_the_scale_of_weights(scale):
    x, w = problem(-1.0)
    ball, sheet, X = PoincareBall(), Hyperboloid(), to_hyperboloid(x)
    torch.testing.assert_close(ball_step(x, scale * w, x[:, 0], ball), ball_step(x, w, x[:, 0], ball))
    torch.testing.assert_close(
        hyperboloid_step(X, scale * w, X[:, 0], sheet), hyperboloid_step(X, w, X[:, 0], sheet)
    )
    torch.testing.assert_close(karcher_step(x, scale * w, x[:, 0], ball), karcher_step(x, w, x[:, 0], ball))
    torch.testing.assert_close(einstein_midpoint(x, scale * w), einstein_midpoint(x, w))


def test_a_step_between_opposite_points_is_right_at_the_origin():
    x = torch.tensor([[0.4, 0.2], [-0.4, -0.2]], dtype=torch.float64)
    found = ball_step(
        x, torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), PoincareBall()
    )
    assert torch.equal(found, torch.zeros(2, dtype=torch.float64))


MANIFOLDS = [Euclidean(), Sphere(), *(chart(K) for chart in (PoincareBall, Hyperboloid) for K in CURVATURES)]
manifolds = pytest.mark.parametrize("manifold", MANIFOLDS, ids=repr)


def cluster(manifold, seed=0, shape=(3, 5, 4), spread=0.4):
    """Points around one, with weights."""
    generator = torch.Generator().manual_seed(seed)
    centre = manifold.random(*shape[:-2], 1, shape[-1], generator=generator, dtype=torch.float64).expand(
        shape
    )
    x = manifold.exp(centre, spread * manifold.random_tangent(centre, generator=generator))
    return x, torch.rand(shape[:-1], generator=generator, dtype=torch.float64) + 0.1


@manifolds
def test_flows_end_at_the_mean(manifold):
    x, w = cluster(manifold)
    wanted = frechet_mean(x, w, manifold)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(karcher_flow(x, w, manifold, iterations=60), wanted, **close)
    found = riemannian_gradient_descent(x, w, manifold, step=0.3, start=x[..., 1, :], iterations=150)
    torch.testing.assert_close(found, wanted, **close)
    torch.testing.assert_close(karcher_step(x, w, wanted, manifold), wanted, **close)


@manifolds
def test_a_gradient_step_follows_the_gradient(manifold):
    x, w = cluster(manifold, spread=0.7)
    y = x[..., 0, :].clone().requires_grad_()
    value = (w * manifold.squared_dist(x, y.unsqueeze(-2))).sum(-1) / w.sum(-1)
    (euclidean,) = torch.autograd.grad(value.sum(), y)
    y = y.detach()
    velocity = manifold.log(y, gradient_step(x, w, y, manifold, 1e-6)) / 1e-6
    u = manifold.random_tangent(y, generator=torch.Generator().manual_seed(1))
    # The differential of the objective along u is the inner product with minus the velocity.
    torch.testing.assert_close(manifold.inner(y, velocity, u), -(euclidean * u).sum(-1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(karcher_step(x, w, y, manifold), gradient_step(x, w, y, manifold, 0.5))


@manifolds
def test_tangent_mean_averages_logarithms_at_the_origin(manifold):
    x, w = cluster(manifold)
    found = tangent_mean(x, w, manifold)
    origin = manifold.origin_like(found)
    logs = manifold.log(origin.unsqueeze(-2), x)
    wanted = (
        torch.stack([(w[..., k, None] * logs[..., k, :]) for k in range(5)]).sum(0) / w.sum(-1)[..., None]
    )
    torch.testing.assert_close(manifold.log(origin, found), wanted, rtol=1e-9, atol=1e-9)
    ones = torch.ones_like(w)
    torch.testing.assert_close(tangent_mean(x, None, manifold), tangent_mean(x, ones, manifold))


@curvatures
def test_einstein_midpoint_minimises_the_sum_of_cosh(K):
    ball, sheet = PoincareBall(K), Hyperboloid(K)
    x, w = problem(K)
    y = einstein_midpoint(x, w, ball).requires_grad_()
    value = (w * ((-K) ** 0.5 * ball.dist(x, y.unsqueeze(-2))).cosh()).sum(-1)
    (slope,) = torch.autograd.grad(value.sum(), y)
    assert slope.abs().max() < 1e-10 * value.max()
    X = to_hyperboloid(x, K)
    Y = einstein_midpoint(X, w, sheet)
    torch.testing.assert_close(to_ball(Y, K), y.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(lorentz(Y, Y)[..., 0], torch.full((4,), 1 / K, dtype=torch.float64))
    torch.testing.assert_close(
        einstein_midpoint(x, None, ball), einstein_midpoint(x, torch.ones_like(w), ball)
    )


@curvatures
def test_midpoints_of_two_points_agree(K):
    ball = PoincareBall(K)
    x, _ = problem(K, shape=(5, 2, 3))
    half = ball.exp(x[:, 0], 0.5 * ball.log(x[:, 0], x[:, 1]))
    torch.testing.assert_close(einstein_midpoint(x, None, ball), half, rtol=0, atol=1e-13)
    torch.testing.assert_close(frechet_mean(x, None, ball), half, rtol=0, atol=1e-12)


def test_the_default_is_the_unit_ball():
    x, w = problem(-1.0)
    for average in (tangent_mean, einstein_midpoint, karcher_flow):
        torch.testing.assert_close(average(x, w), average(x, w, PoincareBall(-1.0)), rtol=0, atol=0)
        torch.testing.assert_close(average(x), average(x, torch.ones_like(w)), rtol=0, atol=1e-15)
    torch.testing.assert_close(
        riemannian_gradient_descent(x, iterations=3),
        riemannian_gradient_descent(x, 0 * w + 1, step=0.01, iterations=3),
    )


@curvatures
def test_averages_are_differentiable_in_everything(K):
    x, w = problem(K, shape=(2, 3, 2))
    K = torch.tensor(K, dtype=torch.float64)
    inputs = [a.clone().requires_grad_() for a in (x, w, K)]
    for average in (tangent_mean, einstein_midpoint):
        assert torch.autograd.gradcheck(lambda x, w, K: average(x, w, PoincareBall(K)), inputs)  # noqa: B023
    assert torch.autograd.gradcheck(lambda x, w, K: karcher_flow(x, w, PoincareBall(K), iterations=3), inputs)


def test_single_precision_stays_single():
    x, w = problem(-1.0, dtype=torch.float32)
    ball, sheet, X = PoincareBall(), Hyperboloid(), to_hyperboloid(x)
    for found, wanted in (
        (tangent_mean(x, w), tangent_mean(x.double(), w.double())),
        (einstein_midpoint(x, w), einstein_midpoint(x.double(), w.double())),
        (ball_step(x, w, x[:, 0], ball), ball_step(x.double(), w.double(), x[:, 0].double(), ball)),
        (
            to_ball(hyperboloid_step(X, w, X[:, 0], sheet)),
            ball_step(x.double(), w.double(), x[:, 0].double(), ball),
        ),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
