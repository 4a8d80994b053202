"""The Fréchet mean by what is known of it: closed forms, symmetries, limits, two charts, graphs, and bad input."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    Torus,
    ball_step,
    einstein_midpoint,
    frechet_mean,
    frechet_variance,
    graph_frechet_mean,
    lorentz,
    to_ball,
    to_hyperboloid,
)

CURVATURES = (-1.0, -0.5, -2.3)
curvatures = pytest.mark.parametrize("K", CURVATURES)
seeds = pytest.mark.parametrize("seed", range(3))
DOUBLE = torch.float64


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=DOUBLE)


def problem(K=-1.0, seed=0, shape=(4, 6, 3), radius=0.9):
    """Points of the ball within so much of its radius, and weights."""
    x = normal(*shape, seed=seed)
    share = torch.rand(*shape[:-1], 1, generator=generator(seed + 1), dtype=DOUBLE)
    w = torch.rand(shape[:-1], generator=generator(seed + 2), dtype=DOUBLE) + 0.1
    return radius * share * x / x.norm(dim=-1, keepdim=True) * (-K) ** -0.5, w


def slope(ball, x, w, y):
    """Length of the Riemannian gradient at the mean, against the sum of distances: both formulas of their own."""
    logs = ball.log(y.unsqueeze(-2), x)
    pull = (w.unsqueeze(-1) * logs).sum(-2)
    return ball.norm(y, pull) / (w * ball.dist(y.unsqueeze(-2), x)).sum(-1)


def near(found, wanted, atol):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def jacobian(function, *inputs):
    return torch.autograd.functional.jacobian(function, inputs, vectorize=False)


# ---- closed forms


@curvatures
@seeds
@pytest.mark.parametrize("share", [0.5, 0.1, 0.9])
def test_mean_of_two_points_lies_on_their_geodesic(K, seed, share):
    ball = PoincareBall(K)
    x, _ = problem(K, seed, (5, 2, 3))
    w = torch.tensor([1 - share, share], dtype=DOUBLE)
    near(frechet_mean(x, w, ball), ball.exp(x[:, 0], share * ball.log(x[:, 0], x[:, 1])), 1e-12)


@curvatures
def test_opposite_points_meet_at_the_origin(K):
    x = torch.tensor([[0.3, -0.4], [-0.3, 0.4]], dtype=DOUBLE, requires_grad=True)
    mean = frechet_mean(x, None, PoincareBall(K))
    near(mean, torch.zeros(2, dtype=DOUBLE), 1e-16)
    (gradient,) = torch.autograd.grad(mean.sum(), x)
    assert torch.isfinite(gradient).all()
    four = torch.cat([x.detach(), x.detach().flip(-1) * torch.tensor([1.0, -1.0])])
    near(frechet_mean(four, None, PoincareBall(K)), torch.zeros(2, dtype=DOUBLE), 1e-16)


@curvatures
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("radius", [0.0, 0.5, 0.999])
def test_mean_of_equal_points(K, n, radius):
    point = torch.tensor([0.6, 0.0, -0.8], dtype=DOUBLE) * radius * (-K) ** -0.5
    x, w = point.expand(n, 3).clone(), torch.rand(n, generator=generator(0), dtype=DOUBLE) + 0.1
    near(frechet_mean(x, w, PoincareBall(K)), point, 1e-15)
    by_x, by_w = jacobian(lambda x, w: frechet_mean(x, w, PoincareBall(K)), x, w)
    wanted = torch.eye(3, dtype=DOUBLE)[:, None] * (w / w.sum())[:, None]
    near(by_x, wanted, 1e-11)
    near(by_w, torch.zeros_like(by_w), 1e-12)


@curvatures
@seeds
def test_mean_on_a_diameter(K, seed):
    """There the ball is the real line, by artanh; derivatives follow."""
    c = -K
    line, w = problem(K, seed, (6, 1), radius=0.99)
    line = line[:, 0]
    phi = torch.atanh(c**0.5 * line)
    mu = torch.tanh((w * phi).sum() / w.sum()) / c**0.5
    slopes = w / w.sum() * (1 - c * mu**2) / (1 - c * line**2)
    for direction in (torch.ones(1, dtype=DOUBLE), torch.tensor([0.6, -0.8], dtype=DOUBLE)):
        x = line[:, None] * direction
        near(frechet_mean(x, w, PoincareBall(K)), mu * direction, 1e-12)
        by_x, by_w = jacobian(lambda x, w: frechet_mean(x, w, PoincareBall(K)), x, w)
        near(
            torch.einsum("i,inj,j->n", direction, by_x, direction) / slopes,
            torch.ones(6, dtype=DOUBLE),
            1e-11,
        )
        wanted = (1 - c * mu**2) * (phi - torch.atanh(c**0.5 * mu)) / w.sum() / c**0.5
        near(direction @ by_w, wanted, 1e-12)


@seeds
def test_flat_mean_is_the_weighted_average(seed):
    x, w = problem(seed=seed)
    wanted = torch.stack(
        [sum(b * a for a, b in zip(*row, strict=True)) / row[1].sum() for row in zip(x, w, strict=True)]
    )
    near(frechet_mean(x, w, Euclidean()), wanted, 1e-14)
    near(frechet_mean(1e3 * x, None, Euclidean()), 1e3 * x.mean(1), 1e-12)
    assert torch.autograd.gradcheck(
        lambda x, w: frechet_mean(x, w, Euclidean()), (x.requires_grad_(), w.requires_grad_())
    )


def test_mean_on_a_circle_is_the_mean_angle():
    angles, w = 0.7 * normal(5).clamp(-2, 2) + 2.0, torch.rand(5, generator=generator(1), dtype=DOUBLE)
    mean = (w * angles).sum() / w.sum()

    def on(a):
        return torch.stack([a.cos(), a.sin()], dim=-1)

    near(frechet_mean(on(angles), w, Sphere()), on(mean), 1e-13)
    by_angle = jacobian(lambda a: frechet_mean(on(a), w, Sphere()), angles)[0]
    near(by_angle, torch.stack([-mean.sin(), mean.cos()])[:, None] * w / w.sum(), 1e-12)


@pytest.mark.parametrize("n", [2, 5])
def test_spherical_gradients_agree_with_differences(n):
    """In fewer points than dimensions, and in more."""
    sphere = Sphere()
    x = sphere.exp(
        normal(n, 4) * 0 + torch.eye(4, dtype=DOUBLE)[0], 0.6 * normal(n, 4) * torch.tensor([0.0, 1, 1, 1])
    )
    w = torch.rand(n, generator=generator(1), dtype=DOUBLE) + 0.1
    inputs = [a.clone().requires_grad_() for a in (x, w)]
    assert torch.autograd.gradcheck(lambda x, w: frechet_mean(sphere.project(x), w, sphere), inputs)


# ---- symmetries


@curvatures
@seeds
def test_weights_have_no_scale_and_lengths_no_unit(K, seed):
    x, w = problem(K, seed, (6, 3))
    k = torch.tensor(K, dtype=DOUBLE)
    by_x, by_w, by_k = jacobian(lambda x, w, k: frechet_mean(x, w, PoincareBall(k)), x, w, k)
    near(by_w @ w, torch.zeros(3, dtype=DOUBLE), 1e-12)
    mean = frechet_mean(x, w, PoincareBall(K))
    near(torch.einsum("inj,nj->i", by_x, x) - 2 * K * by_k, mean, 1e-11)
    near(frechet_mean(2 * x, w, PoincareBall(K / 4)), 2 * mean, 1e-13)


@curvatures
@seeds
def test_mean_moves_with_isometries(K, seed):
    ball = PoincareBall(K)
    x, w = problem(K, seed, (6, 3))
    mean = frechet_mean(x, w, ball)
    turn, _ = torch.linalg.qr(normal(3, 3, seed=seed))
    near(frechet_mean(x @ turn, w, ball), mean @ turn, 1e-12)

    a = torch.tensor([0.2, -0.3, 0.1], dtype=DOUBLE) * (-K) ** -0.5
    # The translation that takes 0 to a, by the geometry alone: transport the logarithm and shoot.
    origin = torch.zeros(3, dtype=DOUBLE)

    def translated(p):
        return ball.exp(a, ball.transport(origin, a, ball.log(origin, p)))

    near(frechet_mean(translated(x), w, ball), translated(mean), 1e-12)

    def killing(p):
        return (1 - K * (p * p).sum(-1, keepdim=True)) * a + 2 * K * (p @ a)[..., None] * p

    (by_x,) = jacobian(lambda x: frechet_mean(x, w, ball), x)
    near(torch.einsum("inj,nj->i", by_x, killing(x)), killing(mean), 1e-11)


@curvatures
@seeds
def test_repetition_weight_order_and_absence(K, seed):
    ball = PoincareBall(K)
    x, w = problem(K, seed, (5, 3))
    mean = frechet_mean(x, w, ball)
    order = torch.randperm(5, generator=generator(seed))
    near(frechet_mean(x[order], w[order], ball), mean, 1e-13)
    doubled = w * torch.tensor([1, 2, 1, 1, 1])
    near(
        frechet_mean(torch.cat([x, x[1:2]]), torch.cat([w, w[1:2]]), ball),
        frechet_mean(x, doubled, ball),
        1e-13,
    )
    none = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    near(frechet_mean(x, w * none, ball), frechet_mean(x[none > 0], w[none > 0], ball), 1e-13)
    near(frechet_mean(x, 1e3 * w, ball), mean, 1e-13)


@curvatures
def test_padding_with_weight_zero_is_harmless(K):
    x, w = problem(K, 0, (3, 5, 2))
    padded = torch.cat([x, torch.zeros(3, 4, 2, dtype=DOUBLE)], dim=1).requires_grad_()
    weights = torch.cat([w, torch.zeros(3, 4, dtype=DOUBLE)], dim=1).requires_grad_()
    found = frechet_mean(padded, weights, PoincareBall(K))
    near(found, frechet_mean(x, w, PoincareBall(K)), 1e-13)
    by_x, by_w = torch.autograd.grad(found.sum(), (padded, weights))
    assert not by_x[:, 5:].any()
    assert torch.isfinite(by_x).all()
    assert torch.isfinite(by_w).all()


# ---- the true minimum


@curvatures
@seeds
@pytest.mark.parametrize("radius", [0.5, 0.999])
def test_gradient_vanishes_and_no_neighbour_is_better(K, seed, radius):
    ball = PoincareBall(K)
    x, w = problem(K, seed, (20, 7, 3), radius)
    mean = frechet_mean(x, w, ball)
    assert slope(ball, x, w, mean).max() < 1e-11

    def cost(y):
        return (w * ball.squared_dist(x, y.unsqueeze(-2))).sum(-1)

    aside = ball.exp(mean, 1e-3 * ball.random_tangent(mean, generator(seed)))
    assert (cost(aside) > cost(mean)).all()


@seeds
@pytest.mark.parametrize(("room", "decades", "slack"), [(1e-5, 1, 1e-9), (1e-5, 4, 2e-8), (1e-9, 4, 2e-4)])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_points_at_the_rim_where_the_majorisation_crawls(n, room, decades, slack, seed):
    """The plain iteration needs more than a hundred steps here, so Newton's method ends the search."""
    ball = PoincareBall()
    x, w = problem(-1.0, seed, (100, n, 2))
    w = (
        w**decades
    )  # unequal weights part the mean from the midpoint where the search begins, by up to twenty radii
    x = (1 - room) * x / x.norm(dim=-1, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = frechet_mean(x, w)
    assert slope(ball, x, w, mean).max() < slack  # a mean at the rim is known to eps / room
    if n > 2:
        crawling = einstein_midpoint(x, w)
        for _ in range(100):
            crawling = ball_step(x, w, crawling, ball)
        assert (ball.dist(crawling, mean) > 1e-9).any()


def test_convergence_next_to_the_boundary():
    x, w = problem(-1.0, 0, (20, 6, 3))
    x = x / x.norm(dim=-1, keepdim=True) * (1 - 1e-5)
    mean = frechet_mean(x, w, max_iterations=200)
    assert slope(PoincareBall(), x, w, mean).max() < 1e-9


@pytest.mark.parametrize("room", [1e-6, 1e-9, 1e-12])
@curvatures
def test_two_points_at_opposite_ends(K, room):
    c = -K
    x = torch.tensor([[1 - room, 0.0], [room - 1, 0.0]], dtype=DOUBLE) / c**0.5
    eps = torch.finfo(DOUBLE).eps
    near(frechet_mean(x, None, PoincareBall(K)), torch.zeros(2, dtype=DOUBLE), 16 * eps)
    # Unequal weights: the position on the line of length 2 artanh(1 - room).
    w = torch.tensor([3.0, 1.0], dtype=DOUBLE)
    reach = torch.atanh(c**0.5 * x[0, 0])
    # Points rounded by eps are eps / room radii off, of which sqrt(room) is left halfway.
    tolerance = 1e-12 + 16 * eps / room**0.5
    near(frechet_mean(x, w, PoincareBall(K))[0] * c**0.5, torch.tanh(reach / 2), tolerance)


def test_a_tight_cluster_next_to_the_boundary():
    """Every distance there is known to eps / room of the radius of curvature, and so is the mean."""
    ball = PoincareBall()
    centre = torch.tensor([0.6, 0.8], dtype=DOUBLE) * (1 - 1e-5)
    u = 1e-3 * ball.random_tangent(centre.expand(6, 2), generator(0))
    x = ball.exp(centre, u)
    w = torch.ones(6, dtype=DOUBLE)
    # Flat to first order: the mean is at the average of the vectors, but for the cube of their length.
    assert ball.dist(frechet_mean(x, w), ball.exp(centre, u.mean(0))) < 2e-9


@pytest.mark.parametrize("room", [1e-3, 1e-5, 1e-7])
def test_a_crowd_and_one_point_opposite(room):
    """The midpoint where the search begins is then far from the mean, by up to half of thirty radii."""
    x = torch.zeros(101, 2, dtype=DOUBLE)
    x[:100, 0], x[100, 0] = room - 1, 1 - room
    near(torch.atanh(frechet_mean(x)[0]), -99 / 101 * torch.atanh(x[100, 0]), 1e-15 / room)


def test_points_at_the_origin_and_many_points():
    x = torch.zeros(3, 2, dtype=DOUBLE, requires_grad=True)
    mean = frechet_mean(x)
    near(mean, torch.zeros(2, dtype=DOUBLE), 0)
    near(torch.autograd.grad(mean.sum(), x)[0], torch.full((3, 2), 1 / 3, dtype=DOUBLE), 1e-15)
    x, w = problem(-1.0, 0, (2, 1000, 4))
    assert slope(PoincareBall(), x, w, frechet_mean(x, w)).max() < 1e-12


@curvatures
def test_flat_limit_is_of_first_order(K):
    x, w = normal(7, 3) * 0.3, torch.rand(7, generator=generator(1), dtype=DOUBLE)
    average = (w[:, None] * x).sum(0) / w.sum()

    def error(k):
        return (frechet_mean(x, w, PoincareBall(k)) - average).norm().item()

    for k in (1e-2 * K, 1e-4 * K):
        assert 1.9 < error(k) / error(k / 2) < 2.1
    assert error(-1e-10) < 1e-10


@pytest.mark.parametrize("room", [0.5, 1e-2, 1e-5, 1e-7, 1e-9, 1e-12, 1e-15])
@seeds
def test_a_bad_start_changes_nothing(room, seed):
    x, w = problem(-1.0, seed, (3, 5, 2))
    wanted = frechet_mean(x, w)
    start = normal(3, 2, seed=9)
    start = start / start.norm(dim=-1, keepdim=True) * (1 - room)
    near(frechet_mean(x, w, start=start), wanted, 1e-12)
    lifted = to_hyperboloid(start)
    if room > 1e-7:  # further out the lifted start is not on the hyperboloid to the precision that is checked
        near(to_ball(frechet_mean(to_hyperboloid(x), w, Hyperboloid(), start=lifted)), wanted, 1e-11)


def test_a_start_at_the_other_end_changes_nothing():
    x = torch.tensor([0.6, 0.8], dtype=DOUBLE) * (1 - 1e-6) + 1e-7 * normal(5, 2)
    wanted = frechet_mean(x)
    for room in (1e-2, 1e-5, 1e-8):
        found = frechet_mean(x, start=torch.tensor([-0.6, -0.8], dtype=DOUBLE) * (1 - room))
        assert PoincareBall().dist(found, wanted) < 1e-9


@pytest.mark.parametrize("manifold", [PoincareBall(-0.5), Hyperboloid(-0.5), Sphere(), Euclidean()], ids=repr)
def test_a_good_start_changes_nothing_and_is_not_written_to(manifold):
    centre = manifold.random(2, 1, 3, generator=generator(0), dtype=DOUBLE).expand(2, 5, 3)
    x = manifold.exp(centre, 0.4 * manifold.random_tangent(centre, generator(1)))
    wanted = frechet_mean(x, None, manifold)
    start = wanted.clone()
    near(frechet_mean(x, None, manifold, start=start), wanted, 1e-12)
    assert torch.equal(start, wanted)
    near(frechet_mean(x, None, manifold, start=x[:, 0].clone()), wanted, 1e-11)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e306, 1e-300])
def test_scale_of_weights_is_free(scale):
    x, w = problem()
    wanted = frechet_mean(x, w)
    x.requires_grad_()
    found = frechet_mean(x, scale * w)
    near(found, wanted, 1e-13)
    one, other = (torch.autograd.grad(m.sum(), x)[0] for m in (found, frechet_mean(x, w)))
    near(one, other, 1e-11)
    near(frechet_mean(x.detach().float(), (1e25 if scale > 1 else 1e-25) * w.float()).double(), wanted, 1e-5)


@seeds
def test_weights_of_twelve_decades(seed):
    ball = PoincareBall()
    x, _ = problem(-1.0, seed, (9, 13, 3))
    w = torch.logspace(-12, 0, 13, dtype=DOUBLE)[torch.randperm(13, generator=generator(seed))]
    mean = frechet_mean(x, w)
    assert ((w[:, None] * ball.log(mean.unsqueeze(-2), x)).sum(-2).norm(dim=-1) < 1e-12).all()
    heaviest = x[:, w.argmax()]
    assert (ball.dist(mean, heaviest) < 2).all()


# ---- the gradients


@curvatures
@pytest.mark.parametrize(("n", "d"), [(1, 2), (3, 1), (2, 5), (6, 3)])
def test_gradients_agree_with_differences(K, n, d):
    x, w = problem(K, n, (n, d), 0.8)
    inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(K, dtype=DOUBLE))]
    assert torch.autograd.gradcheck(
        lambda x, w, K: frechet_mean(x, w, PoincareBall(K), tolerance=1e-14), inputs, atol=1e-7, rtol=1e-6
    )


@curvatures
@seeds
@pytest.mark.parametrize(("n", "d"), [(5, 3), (2, 4)])
def test_both_charts_agree_in_values_and_all_gradients(K, seed, n, d):
    """Also in the curvature, which moves the hyperboloid itself."""
    x, w = problem(K, seed, (n, d))
    K, g = torch.tensor(K, dtype=DOUBLE), normal(d, seed=seed)

    def by_ball(x, w, K):
        return frechet_mean(x, w, PoincareBall(K))

    def by_sheet(x, w, K):
        return to_ball(frechet_mean(to_hyperboloid(x, K), w, Hyperboloid(K)), K)

    rows = []
    for function in (by_ball, by_sheet):
        inputs = [a.clone().requires_grad_() for a in (x, w, K)]
        found = function(*inputs)
        rows.append([found.detach(), *torch.autograd.grad(found, inputs, g)])
    for one, other in zip(*rows, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_hyperboloid_mean_lies_on_it_and_far_out_keeps_its_digits():
    sheet = Hyperboloid(-0.5)
    x = to_hyperboloid(problem(-0.5)[0], -0.5)
    sheet.check(frechet_mean(x, None, sheet))
    # Two points seven radii out: their midpoint is the normalised sum.
    x = Hyperboloid().project(torch.tensor([[0.0, 600.0, 10.0], [0.0, -20.0, 550.0]], dtype=DOUBLE))
    total = x.sum(0)
    near(frechet_mean(x, None, Hyperboloid()), total / (-lorentz(total, total)).sqrt(), 1e-9)


def test_gradients_of_some_inputs_only():
    x, w = problem(shape=(4, 3))
    K = torch.tensor(-0.6, dtype=DOUBLE)
    everything = [a.clone().requires_grad_() for a in (x, w, K)]
    wanted = torch.autograd.grad(frechet_mean(*everything[:2], PoincareBall(everything[2])).sum(), everything)
    for k in range(3):
        inputs = [a.clone().requires_grad_(i == k) for i, a in enumerate((x, w, K))]
        found = torch.autograd.grad(frechet_mean(*inputs[:2], PoincareBall(inputs[2])).sum(), inputs[k])
        near(found[0], wanted[k], 1e-13)


# ---- the variance


@curvatures
def test_variance_is_the_mean_square(K):
    x, w = problem(K)
    for manifold, points in ((PoincareBall(K), x), (Hyperboloid(K), to_hyperboloid(x, K)), (Euclidean(), x)):
        mean = frechet_mean(points, w, manifold)
        wanted = sum(w[:, k] * manifold.dist(mean, points[:, k]) ** 2 for k in range(6)) / w.sum(-1)
        near(frechet_variance(points, w, manifold), wanted, 1e-12)
        near(frechet_variance(points, w, manifold, mean=mean), wanted, 1e-12)
        near(frechet_variance(points, 7 * w, manifold), wanted, 1e-12)
        ones = torch.ones_like(w)
        near(frechet_variance(points, None, manifold), frechet_variance(points, ones, manifold), 0)
    near(
        frechet_variance(x, w, PoincareBall(K), tolerance=1e-14),
        frechet_variance(x, w, PoincareBall(K)),
        1e-13,
    )


@curvatures
def test_variance_has_the_gradient_of_differences(K):
    x, w = problem(K, 0, (4, 2))
    inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(K, dtype=DOUBLE))]
    assert torch.autograd.gradcheck(lambda x, w, K: frechet_variance(x, w, PoincareBall(K)), inputs)
    assert torch.autograd.gradcheck(
        lambda x, w, K: frechet_variance(to_hyperboloid(x, K), w, Hyperboloid(K)), inputs
    )
    # The mean is stationary: one that is known need not be differentiated through.
    known = frechet_mean(x, w, PoincareBall(K))
    short = [
        torch.autograd.grad(frechet_variance(*inputs[:2], PoincareBall(inputs[2]), mean=m), inputs)
        for m in (None, known)
    ]
    for one, other in zip(*short, strict=True):
        near(one, other, 1e-10)


def test_variance_of_equal_points_is_zero_with_gradient_zero():
    x = torch.tensor([0.3, 0.4], dtype=DOUBLE).expand(4, 2).clone().requires_grad_()
    value = frechet_variance(x)
    near(value, torch.zeros((), dtype=DOUBLE), 1e-30)
    near(torch.autograd.grad(value, x)[0], torch.zeros(4, 2, dtype=DOUBLE), 1e-14)


# ---- shapes and dtypes


@given(
    lead=st.lists(st.integers(0, 3), max_size=3),
    n=st.integers(1, 4),
    d=st.integers(1, 4),
    kind=st.sampled_from([PoincareBall, Hyperboloid, Sphere, Euclidean]),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_batches_are_loops(lead, n, d, kind):
    manifold = kind()
    d = d + (kind in (Hyperboloid, Sphere))
    centre = manifold.random(*lead, 1, d, generator=generator(0), dtype=DOUBLE).expand(*lead, n, d)
    x = manifold.exp(centre, 0.3 * manifold.random_tangent(centre, generator(1))).requires_grad_()
    w = (torch.rand(*lead, n, generator=generator(2), dtype=DOUBLE) + 0.1).requires_grad_()
    mean = frechet_mean(x, w, manifold)
    assert mean.shape == (*lead, d)
    assert frechet_variance(x, w, manifold).shape == tuple(lead)
    singles = [
        frechet_mean(a, b, manifold) for a, b in zip(x.reshape(-1, n, d), w.reshape(-1, n), strict=True)
    ]
    g = normal(*lead, d, seed=3)
    gradients = torch.autograd.grad(mean, (x, w), g)
    assert [a.shape for a in gradients] == [x.shape, w.shape]
    if singles:
        near(mean.reshape(-1, d), torch.stack(singles), 1e-13)
        looped = torch.autograd.grad(torch.stack(singles), (x, w), g.reshape(-1, d))
        for one, other in zip(gradients, looped, strict=True):
            near(one, other, 1e-11)


def test_weights_broadcast_over_leading_axes():
    x, _ = problem(shape=(2, 4, 5, 3))
    w = (torch.rand(5, generator=generator(0), dtype=DOUBLE) + 0.1).requires_grad_()
    found = frechet_mean(x, w)
    wide = w.detach().expand(2, 4, 5).clone().requires_grad_()
    near(found, frechet_mean(x, wide), 0)
    (narrow,), (full,) = (torch.autograd.grad(frechet_mean(x, v).sum(), v) for v in (w, wide))
    near(narrow, full.sum((0, 1)), 1e-12)


def test_a_mean_does_not_depend_on_its_neighbours():
    x, w = problem(shape=(6, 4, 2))
    x[3] = 0.99999 * x[3] / x[3].norm(dim=-1, keepdim=True)
    for k in range(6):
        near(frechet_mean(x, w)[k], frechet_mean(x[k], w[k]), 1e-15)


def test_memory_order_does_not_matter():
    x, w = problem(shape=(4, 6, 3))
    strided = x.transpose(0, 2).contiguous().transpose(0, 2)
    near(frechet_mean(strided, w.T.contiguous().T), frechet_mean(x, w), 1e-15)


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
@curvatures
def test_single_precision_is_as_good_as_it_can_be(kind, K):
    manifold = kind(K)
    x, w = problem(K, radius=0.95)
    wanted = frechet_mean(x, w, PoincareBall(K))
    points = x if kind is PoincareBall else to_hyperboloid(x, K)
    found = frechet_mean(points.float(), w.float(), manifold)
    assert found.dtype == torch.float32
    found = found.double() if kind is PoincareBall else to_ball(found.double(), K)
    near(found, wanted, 1e-5)


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-5])
def test_single_precision_resolves_a_cluster(spread):
    x = 0.4 + spread / 4 * normal(8, 9, 3).clamp(-2, 2)
    wanted = frechet_mean(x.float().double())
    assert (frechet_mean(x.float()).double() - wanted).abs().max() < 2e-7


def test_single_precision_converges_quietly_in_large_batches():
    x, w = problem(-1.0, 0, (300, 30, 5), 0.999)
    x, w = x.float().requires_grad_(), w.float().requires_grad_()
    mean = frechet_mean(x, w)
    assert (mean.double() - frechet_mean(x.double(), w.double())).abs().max() < 2e-5
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(mean.sum(), (x, w)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(dtype):
    x, w = problem(shape=(5, 3))
    x, w = x.to(dtype).requires_grad_(), w.to(dtype)
    wanted = frechet_mean(x.detach().float(), w.float())
    found = frechet_mean(x, w)
    assert found.dtype == torch.float32
    near(found.detach(), wanted, 0)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.dtype == dtype
    assert frechet_variance(x, w).dtype == torch.float32
    edges = torch.tensor([[0, 1, 2], [3, 3, 3]])
    assert graph_frechet_mean(x, edges).dtype == torch.float32
    near(frechet_mean(x, w, start=x[0].detach()).detach(), wanted, 1e-6)


def test_integer_weights_count():
    x, _ = problem(shape=(3, 2))
    counts = torch.tensor([3, 0, 1])
    near(frechet_mean(x, counts), frechet_mean(x[[0, 0, 0, 2]]), 1e-13)
    near(frechet_variance(x, counts), frechet_variance(x[[0, 0, 0, 2]]), 1e-13)
    near(frechet_mean(x, counts > 0), frechet_mean(x[[0, 2]]), 1e-13)


# ---- graphs


@st.composite
def graphs(draw):
    """Nodes, edges (isolated nodes, repeated edges, any order), weights and points."""
    nodes, d = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    count, seed = draw(st.integers(0, 40)), draw(st.integers(0, 1000))
    edges = torch.randint(nodes, (2, count), generator=generator(seed))
    x, _ = problem(-0.7, seed, (nodes, d))
    return x, edges, torch.rand(count, generator=generator(seed), dtype=DOUBLE) + 0.1


def padded(x, edges, w):
    """The same problem as a dense batch: weight 0 where a node has fewer edges than another."""
    rows = [[] for _ in range(len(x))]
    for source, owner, weight in zip(*edges.tolist(), w, strict=True):
        rows[owner].append((x[source], weight))
    for node, row in enumerate(rows):
        if not row:
            row.append((x[node], w.new_ones(())))
    most = max(map(len, rows))
    origin, nothing = torch.zeros_like(x[0]), w.new_zeros(())
    rows = [row + [(origin, nothing)] * (most - len(row)) for row in rows]
    points, weights = (
        torch.stack([torch.stack([entry[k] for entry in row]) for row in rows]) for k in (0, 1)
    )
    return points, weights


@pytest.mark.parametrize("chart", [PoincareBall, Hyperboloid])
@given(graph=graphs())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_graph_means_are_padded_means(chart, graph):
    x, edges, w = graph
    rows = []
    for kind in ("segments", "padding"):
        inputs = [a.clone().requires_grad_() for a in (x, w, torch.tensor(-0.7, dtype=DOUBLE))]
        points, weights, K = inputs
        manifold = PoincareBall(K)
        if kind == "padding":
            found = frechet_mean(*padded(points, edges, weights), manifold)
        elif chart is PoincareBall:
            found = graph_frechet_mean(points, edges, weights, manifold)
        else:
            found = to_ball(graph_frechet_mean(to_hyperboloid(points, K), edges, weights, Hyperboloid(K)), K)
        rows.append(
            [found.detach(), *torch.autograd.grad(found, inputs, normal(*x.shape), allow_unused=True)]
        )
    near(rows[0][0], rows[1][0], 1e-12)
    for one, other in zip(rows[0][1:], rows[1][1:], strict=True):
        none = torch.zeros(())
        near(none if one is None else one, torch.zeros_like(one) if other is None else other, 1e-10)


@pytest.mark.parametrize("manifold", [PoincareBall(-0.5), Hyperboloid(-0.5), Sphere(), Euclidean()], ids=repr)
def test_graph_means_are_means_of_neighbours(manifold):
    origin = manifold.origin_like(torch.zeros(7, 3, dtype=DOUBLE))
    x = manifold.exp(origin, 0.4 * manifold.random_tangent(origin, generator(1)))
    edges = torch.tensor([[0, 1, 2, 2, 5, 0, 4, 6], [3, 3, 3, 1, 1, 3, 5, 6]])
    w = torch.rand(8, generator=generator(0), dtype=DOUBLE) + 0.1
    found = graph_frechet_mean(x, edges, w, manifold)
    for node in range(7):
        mine = edges[1] == node
        wanted = frechet_mean(x[edges[0, mine]], w[mine], manifold) if mine.any() else x[node]
        near(found[node], wanted, 1e-12)
    near(graph_frechet_mean(x, edges.int(), w, manifold), found, 0)
    near(graph_frechet_mean(x, edges, w, manifold, start=found.clone()), found, 1e-11)
    equal = graph_frechet_mean(x, edges, None, manifold)
    near(equal, graph_frechet_mean(x, edges, torch.ones(8, dtype=DOUBLE), manifold), 0)


def test_graph_means_at_the_rim_are_finished_too():
    """Some nodes go on by Newton's method, others not."""
    x, _ = problem(-1.0, 2, (40, 2))
    x[:20] = 0.99999 * x[:20] / x[:20].norm(dim=-1, keepdim=True)
    edges = torch.randint(40, (2, 160), generator=generator(3))
    weights = torch.rand(160, generator=generator(4), dtype=DOUBLE) + 0.1
    found = graph_frechet_mean(x, edges, weights)
    points, padding = padded(x, edges, weights)
    some = padding.gt(0).sum(-1) > 1
    assert slope(PoincareBall(), points[some], padding[some], found[some]).max() < 1e-9


def test_graphs_without_nodes_or_edges():
    x, _ = problem(shape=(3, 2))
    none = torch.zeros(2, 0, dtype=torch.int64)
    near(graph_frechet_mean(x, none), x, 1e-15)
    assert graph_frechet_mean(x[:0], none).shape == (0, 2)


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that any operation returned in one tensor."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.most = max(self.most, one.untyped_storage().nbytes() // one.element_size())
        return result


@pytest.mark.parametrize("radius", [0.9, 0.99999])
def test_no_outer_product_per_point_is_stored(radius):
    B, n, d = 3, 40, 20
    x, w = problem(-1.0, 0, (B, n, d))
    x = radius * x / x.norm(dim=-1, keepdim=True)
    x.requires_grad_()
    w.requires_grad_()
    with LargestTensor() as dense:
        torch.autograd.grad(frechet_mean(x, w).sum(), (x, w))
    assert dense.most <= max(B * n * d, B * d * d)
    x_wide, w_wide = (a.requires_grad_() for a in problem(shape=(B, 5, 60)))
    with LargestTensor() as wide:
        torch.autograd.grad(frechet_mean(x_wide, w_wide).sum(), (x_wide, w_wide))
    assert wide.most <= B * 5 * 60
    edges = torch.stack([torch.randint(n, (400,), generator=generator(0)), torch.arange(400) % n])
    with LargestTensor() as sparse:
        torch.autograd.grad(graph_frechet_mean(x[0], edges).sum(), x)
    assert sparse.most <= max(400 * d, n * d * d)


# ---- bad input


def test_points_outside_are_refused_with_the_worst_norm():
    x, w = problem(shape=(2, 3, 2))
    x[1, 2] = torch.tensor([0.0, 1.25])
    for call in (
        lambda: frechet_mean(x, w),
        lambda: frechet_variance(x, w),
        lambda: graph_frechet_mean(x[1], torch.zeros(2, 1).long()),
    ):
        with pytest.raises(
            ValueError, match=r"inside the ball of radius 1, got one of norm 1\.25: use .*project"
        ):
            call()
    with pytest.raises(ValueError, match="upper sheet"):
        frechet_mean(x + 1, w, Hyperboloid())
    with pytest.raises(ValueError, match="unit sphere"):
        frechet_mean(2 + x, w, Sphere())
    with pytest.raises(ValueError, match="must be finite, got nan"):
        frechet_mean(x * torch.nan, w, Euclidean())


@curvatures
def test_every_point_that_passes_the_check_has_a_finite_mean(K):
    """Also those a rounding away from the boundary, which scaling to radius 1 may round onto it."""
    ball = PoincareBall(K)
    x = normal(4000, 2)
    x = (
        x
        / x.norm(dim=-1, keepdim=True)
        * (1 - 1e-16 * torch.arange(4000, dtype=DOUBLE))[:, None]
        * (-K) ** -0.5
    )
    passing = []
    for point in x:
        try:
            ball.check(point)
        except ValueError:
            continue
        passing.append(point)
    assert len(passing) > 3000
    pairs = torch.stack([torch.stack(passing), torch.zeros(len(passing), 2, dtype=DOUBLE)], dim=1)
    assert torch.isfinite(frechet_mean(pairs, None, ball)).all()


@pytest.mark.parametrize("bad", [-0.5, math.nan, math.inf])
def test_bad_weights_are_named_with_their_index(bad):
    x, w = problem(shape=(2, 3, 2))
    w[1, 0] = bad
    with pytest.raises(
        ValueError, match=rf"weights must be at least 0 and finite, got {bad:g} at index \(1, 0\)"
    ):
        frechet_mean(x, w)
    with pytest.raises(ValueError, match=rf"got {bad:g} at index \(0,\)"):
        graph_frechet_mean(x[0], torch.tensor([[0, 1], [1, 2]]), w[1, :2])


def test_weights_that_are_all_zero_are_named():
    x, w = problem(shape=(2, 3, 2))
    w[1] = 0
    with pytest.raises(ValueError, match=r"weights must not all be 0, but they are for element \(1,\)"):
        frechet_mean(x, w)
    with pytest.raises(ValueError, match=r"all be 0, but they are for node \(2,\)"):
        graph_frechet_mean(x[0], torch.tensor([[0, 1], [1, 2]]), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="weights must not all be 0"):
        frechet_mean(x[0], torch.zeros(3))


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 4)], ids=str)
def test_mismatched_weights_are_named_with_both_shapes(shape):
    x, _ = problem(shape=(2, 3, 2))
    with pytest.raises(ValueError, match=r"\(2, 3\), one for each of points \(2, 3, 2\), got \(\d") as caught:
        frechet_mean(x, torch.ones(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(3,), ()], ids=str)
def test_points_need_two_axes(shape):
    with pytest.raises(ValueError, match=r"points must have shape \(\.\.\., n, d\), got \("):
        frechet_mean(torch.zeros(shape))


def test_no_points_have_no_mean():
    with pytest.raises(ValueError, match=r"at least one point, got points of shape \(2, 0, 3\)"):
        frechet_mean(torch.zeros(2, 0, 3))


def test_points_must_be_floating():
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch\.int64"):
        frechet_mean(torch.zeros(2, 3, dtype=torch.int64))


def test_start_must_fit():
    x, w = problem(shape=(2, 3, 2))
    with pytest.raises(ValueError, match=r"start must have shape \(2, 2\), got \(2,\)"):
        frechet_mean(x, w, start=x[0, 0])


def test_start_must_lie_on_the_manifold():
    x, w = problem(shape=(2, 3, 2))
    with pytest.raises(ValueError, match="inside the ball"):
        frechet_mean(x, w, start=2 + x[:, 0])
    with pytest.raises(ValueError, match="must be finite"):
        frechet_mean(x, w, start=torch.nan * x[:, 0])


def test_manifolds_without_a_mean_are_refused():
    with pytest.raises(
        ValueError, match=r"no Fréchet mean is known on Torus\(2\): choose .* or use karcher_flow"
    ):
        frechet_mean(torch.zeros(3, 2), None, Torus(2))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 1], [1, 3]]), r"nodes from 0 to 2, got 0 to 3"),
        (torch.tensor([[0, -1], [1, 2]]), r"nodes from 0 to 2, got -1 to 2"),
        (torch.tensor([[0.0], [1.0]]), r"integers of shape \(2, E\), got float32"),
        (
            torch.tensor([[0, 1, 2]]),
            r"integers of shape \(2, E\), got shape \(1, 3\)",
        ),
    ],
)
def test_bad_edges_are_named(edges, message):
    with pytest.raises(ValueError, match=message):
        graph_frechet_mean(torch.zeros(3, 2), edges)


def test_a_graph_has_one_point_at_each_node():
    with pytest.raises(ValueError, match=r"\(N, d\), one for each node, got \(1, 3, 2\)"):
        graph_frechet_mean(torch.zeros(1, 3, 2), torch.zeros(2, 1).long())
    with pytest.raises(ValueError, match=r"weights must have shape \(1,\)"):
        graph_frechet_mean(torch.zeros(3, 2), torch.zeros(2, 1).long(), torch.ones(2))


def test_too_few_iterations_warn_and_still_answer():
    x, w = problem(radius=0.99)
    with pytest.warns(
        RuntimeWarning, match=r"estimated error of \d.* after 1 iterations, .* 1e-12: raise max_iterations"
    ) as caught:
        mean = frechet_mean(x, w, max_iterations=1)
    assert caught[0].filename == __file__
    assert PoincareBall().dist(mean, frechet_mean(x, w)).max() < 1
    with pytest.warns(RuntimeWarning, match="raise max_iterations"):
        graph_frechet_mean(x[0], torch.tensor([[0, 1, 2, 3], [5, 5, 5, 5]]), max_iterations=1)
    near(frechet_mean(x[:, :1], max_iterations=1), x[:, 0], 1e-15)
    with pytest.raises(ValueError, match="max_iterations must be a positive whole number, got 0"):
        frechet_mean(x, w, max_iterations=0)


def test_the_tolerance_is_kept_and_the_estimate_is_honest():
    x, w = problem(shape=(50, 5, 3), radius=0.999)
    truth = frechet_mean(x, w)
    for tolerance in (1e-2, 1e-4, 1e-8):
        error = PoincareBall().dist(frechet_mean(x, w, tolerance=tolerance), truth)
        assert error.max() < 10 * tolerance


def test_no_answer_is_not_silent():
    """A result of nan has not converged, whatever made it."""
    x = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=DOUBLE)
    with pytest.warns(RuntimeWarning, match="estimated error of nan"):
        frechet_mean(x, None, Sphere(), max_iterations=3)


@pytest.mark.parametrize("space", [PoincareBall(-0.7), Hyperboloid(), Sphere(), Euclidean()], ids=str)
def test_functional_gradients_are_those_of_autograd(space):
    x = space.random(5, 3, generator=generator(0), dtype=DOUBLE)
    if isinstance(space, Sphere):  # within a hemisphere
        x[:, 0] = x[:, 0].abs()
    weights = problem(shape=(5, 3))[1]

    def value(x):
        return (frechet_mean(x, weights, space) ** 3).sum()

    y = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(value(y), y)
    assert wanted.any()
    near(torch.func.grad(value)(x), wanted, 1e-13)
