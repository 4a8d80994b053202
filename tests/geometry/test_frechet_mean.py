"""The Fréchet mean by what is known of it: closed forms, symmetries, limits, the true minimum."""

import warnings

import pytest
import torch
from means import DOUBLE, curvatures, generator, jacobian, near, normal, problem, seeds, slope

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    ball_step,
    einstein_midpoint,
    frechet_mean,
    to_ball,
    to_hyperboloid,
)

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
    # Unequal weights part the mean from the midpoint where the search begins, by up to twenty radii.
    w = w**decades
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
