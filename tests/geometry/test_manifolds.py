"""Flat, spherical and hyperbolic space beyond the laws: textbooks, two charts of one space, edges, errors."""

import math

import pytest
import torch

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    Manifold,
    PoincareBall,
    Sphere,
    gyration,
    lorentz,
    mobius_add,
    to_ball,
    to_hyperboloid,
)

CURVATURES = (-1.0, -0.5, -2.3)
SPACES = [
    Euclidean(),
    Sphere(),
    *(
        chart(K)
        for chart in (PoincareBall, Hyperboloid)
        for K in (-1.0, -2.3, torch.tensor(-0.5, dtype=torch.float64))
    ),
]
HYPERBOLIC = [space for space in SPACES if space.curvature < 0]
DTYPES = (torch.float64, torch.float32)

spaces = pytest.mark.parametrize("space", SPACES, ids=repr)
hyperbolic = pytest.mark.parametrize("space", HYPERBOLIC, ids=repr)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
seeds = pytest.mark.parametrize("seed", range(2))


def eps(dtype):
    return torch.finfo(dtype).eps


def random_case(space, seed, dtype=torch.float64, shape=(40, 4)):
    """Two points and two tangent vectors at the first."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (space.random(*shape, generator=generator, dtype=dtype) for _ in range(2))
    if space.curvature < 0:
        # Within a few radii of curvature of the origin; the tests at the end go further out.
        shorten, origin = 0.5 * (-space.curvature) ** -0.5, space.origin_like(x)
        x, y = (space.exp(origin, shorten * space.log(origin, p)) for p in (x, y))
    return x, y, *(space.random_tangent(x, generator=generator) for _ in range(2))


def assert_near(found, wanted, dtype, units=200):
    """Within so many units in the last place of the largest entry."""
    torch.testing.assert_close(
        found, wanted, rtol=0, atol=units * eps(dtype) * max(1.0, wanted.abs().max().item())
    )


def jvp(function, inputs, vectors):
    """Value and derivative along the vectors, by two reverse passes: the forward mode warns when it is loaded."""
    return torch.autograd.functional.jvp(function, inputs, vectors)


def shortened(space, x, u, length):
    """The vectors scaled to one length."""
    return u * (length / space.norm(x, u))[..., None]


@dtypes
@pytest.mark.parametrize("curvature", CURVATURES)
def test_ball_projects_to_its_margin(curvature, dtype):
    ball = PoincareBall(curvature)
    x = ball.project(torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=dtype) * 9)
    assert_near(
        (-curvature) ** 0.5 * x.norm(dim=-1), torch.full((20,), 1 - eps(dtype) ** 0.5, dtype=dtype), dtype, 4
    )
    x = ball.project(9 * x, margin=0.25)
    assert_near((-curvature) ** 0.5 * x.norm(dim=-1), torch.full((20,), 0.75, dtype=dtype), dtype, 4)
    inside = 0.5 * x
    assert torch.equal(ball.project(inside), inside)


# ---- geodesics


@spaces
@dtypes
def test_log_has_all_digits_of_close_points(space, dtype):
    x, _, u, _ = random_case(space, 3, dtype)
    x = space.project(0.3 * x) if not isinstance(space, Sphere) else x
    y = space.exp(x, shortened(space, x, u, 1e-8 if dtype == torch.float64 else 1e-4))
    # To first order the logarithm is the tangent part of the difference, and that has all its digits.
    step = space.to_tangent(x, y - x)
    relative = (space.log(x, y) - step).norm(dim=-1) / step.norm(dim=-1)
    assert relative.max() < (1e-7 if dtype == torch.float64 else 5e-3)
    assert_near(space.exp(x, space.log(x, y)), y, dtype, 8)
    torch.testing.assert_close(
        space.dist(x, y),
        space.norm(x, space.log(x, y)),
        rtol=1e-7 if dtype == torch.float64 else 1e-3,
        atol=0,
    )


@spaces
@pytest.mark.parametrize("time", [0.0, 0.4, 2.0])
def test_geodesics_carry_their_own_velocity(space, time):
    x, _, u, _ = random_case(space, 1)
    u = shortened(space, x, u, 0.9)
    y, velocity = jvp(
        lambda s: space.exp(x, s * u), (torch.tensor(time).double(),), (torch.ones(()).double(),)
    )
    torch.testing.assert_close(velocity, space.transport(x, y, u), rtol=1e-11, atol=1e-11)


@hyperbolic
def test_transport_solves_the_equation_of_parallel_fields(space):
    """By the ladder of many short steps, which is independent of the closed form."""
    x, y, u, _ = random_case(space, 2, shape=(5, 3))
    errors = []
    for rungs in (50, 100):
        velocity, carried, point = space.log(x, y), u, x
        for k in range(rungs):
            following = space.exp(x, (k + 1) / rungs * velocity)
            # Schild's ladder: the diagonals of a small parallelogram halve each other.
            tip = space.exp(point, carried / rungs)
            middle = space.exp(tip, 0.5 * space.log(tip, following))
            corner = space.exp(point, 2 * space.log(point, middle))
            point, carried = following, rungs * space.log(following, corner)
        errors.append((carried - space.transport(x, y, u)).abs().max().item())
    assert errors[0] < 0.3
    assert errors[1] < 0.6 * errors[0]


# ---- textbook formulas


@pytest.mark.parametrize("K", CURVATURES)
def test_ball_agrees_with_the_textbook(K):
    ball, c = PoincareBall(K), -K
    x, y, u, _ = random_case(ball, 0)
    dot = lambda a, b: (a * b).sum(-1, keepdim=True)  # noqa: E731
    xx, xy, yy = dot(x, x), dot(x, y), dot(y, y)

    def add(a, b):
        aa, ab, bb = dot(a, a), dot(a, b), dot(b, b)
        return ((1 + 2 * c * ab + c * bb) * a + (1 - c * aa) * b) / (1 + 2 * c * ab + c * c * aa * bb)

    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(mobius_add(x, y, c), add(x, y), **close)
    t = c * (xx - 2 * xy + yy) / ((1 - c * xx) * (1 - c * yy))
    torch.testing.assert_close(ball.dist(x, y), torch.acosh(1 + 2 * t[..., 0]) / math.sqrt(c), **close)
    factor, length = 2 / (1 - c * xx), u.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(ball.conformal_factor(x), factor)
    step = torch.tanh(math.sqrt(c) * factor * length / 2) * u / (math.sqrt(c) * length)
    torch.testing.assert_close(ball.exp(x, u), add(x, step), **close)
    s = add(-x, y)
    r = s.norm(dim=-1, keepdim=True)
    log = 2 / (math.sqrt(c) * factor) * torch.atanh(math.sqrt(c) * r) * s / r
    torch.testing.assert_close(ball.log(x, y), log, **close)
    turned = add(-add(y, -x), add(y, add(-x, 0.1 * u)))  # a vector must lie in the ball to be added
    torch.testing.assert_close(gyration(y, -x, 0.1 * u, c), turned, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("K", CURVATURES)
def test_hyperboloid_agrees_with_the_textbook(K):
    space, c = Hyperboloid(K), -K
    x, y, u, v = random_case(space, 0)
    z = K * lorentz(x, y)[..., 0]
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(lorentz(u, v)[..., 0], (u * v).sum(-1) - 2 * u[..., 0] * v[..., 0])
    torch.testing.assert_close(space.dist(x, y), torch.acosh(z) / math.sqrt(c), **close)
    length = math.sqrt(c) * space.norm(x, u)[..., None]
    torch.testing.assert_close(space.exp(x, u), length.cosh() * x + length.sinh() / length * u, **close)
    normal = y - z[..., None] * x
    log = torch.acosh(z)[..., None] / (z[..., None] ** 2 - 1).sqrt() * normal
    torch.testing.assert_close(space.log(x, y), log, **close)


@hyperbolic
@dtypes
def test_maps_at_the_origin_are_the_general_ones(space, dtype):
    x, _, _, _ = random_case(space, 0, dtype)
    origin = space.origin_like(x)
    u = 0.7 * space.random_tangent(origin, torch.Generator().manual_seed(1))
    assert_near(space.exp0(u), space.exp(origin, u), dtype, 16)
    assert_near(space.log0(x), space.log(origin, x), dtype, 100)


# ---- two charts of one space


@pytest.mark.parametrize("K", CURVATURES)
def test_charts_are_inverse_isometries(K):
    ball, sheet = PoincareBall(K), Hyperboloid(K)
    x, y, u, v = random_case(ball, 0, shape=(40, 3))
    X, U = jvp(lambda x: to_hyperboloid(x, K), (x,), (u,))
    Y, V = to_hyperboloid(y, K), jvp(lambda x: to_hyperboloid(x, K), (x,), (v,))[1]
    sheet.check(X)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(to_ball(X, K), x, **close)
    torch.testing.assert_close(to_hyperboloid(to_ball(X, K), K), X, **close)
    torch.testing.assert_close(sheet.dist(X, Y), ball.dist(x, y), **close)
    torch.testing.assert_close(sheet.inner(X, U, V), ball.inner(x, u, v), **close)
    # Every verb, seen through the chart.
    torch.testing.assert_close(sheet.to_tangent(X, U), U, **close)
    torch.testing.assert_close(to_ball(sheet.exp(X, U), K), ball.exp(x, u), **close)
    pushed = jvp(lambda x: to_hyperboloid(x, K), (x,), (ball.log(x, y),))[1]
    torch.testing.assert_close(sheet.log(X, Y), pushed, **close)
    pushed = jvp(lambda x: to_hyperboloid(x, K), (y,), (ball.transport(x, y, u),))[1]
    torch.testing.assert_close(sheet.transport(X, Y, U), pushed, **close)
    torch.testing.assert_close(to_ball(sheet.origin_like(X), K), ball.origin_like(x))


def test_charts_draw_the_same_points_and_vectors():
    ball, sheet = PoincareBall(-2.3), Hyperboloid(-2.3)
    x = ball.random(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = sheet.random(4000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Both squared distances to the origin follow chi-square with three degrees of freedom.
    for squares in (ball.squared_dist(x, ball.origin_like(x)), sheet.squared_dist(y, sheet.origin_like(y))):
        assert squares.mean().item() == pytest.approx(3, rel=0.06)
        assert squares.var().item() == pytest.approx(6, rel=0.2)


# ---- gradients


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_gradients_through_charts_maps_at_the_origin_and_additions(shape):
    K = torch.tensor(-0.8, dtype=torch.float64).reshape(shape).requires_grad_()
    x, y, u, _ = (0.3 * a for a in random_case(PoincareBall(-0.8), 0, shape=(2, 3)))
    for function in (
        lambda K, x: to_ball(to_hyperboloid(x, K) * 1.0005, K),
        to_hyperboloid_swapped,
        lambda K, x: PoincareBall(K).exp0(x),
        lambda K, x: PoincareBall(K).log0(x),
        lambda K, x: Hyperboloid(K).origin_like(x),
        lambda K, x: PoincareBall(K).conformal_factor(x),
        lambda K, x: mobius_add(x, y, -K),
        lambda K, x: gyration(x, y, u, -K),
    ):
        assert torch.autograd.gradcheck(function, (K, x.clone().requires_grad_()))


def to_hyperboloid_swapped(K, x):
    return to_hyperboloid(x, K)


@spaces
@dtypes
def test_gradients_are_finite_where_points_coincide(space, dtype):
    x, _, u, _ = random_case(space, 0, dtype, shape=(3, 4))
    points = [x, space.origin_like(x)]
    if isinstance(space, PoincareBall):
        points.append(space.project(1e3 * x))
    for point in points:
        a, b = point.clone().requires_grad_(), point.clone().requires_grad_()
        zero = torch.zeros_like(u).requires_grad_()
        K = space.curvature
        K = torch.tensor(float(K), dtype=dtype, requires_grad=True) if K < 0 else None
        here = type(space)(K) if K is not None else space
        for value in (
            here.log(a, b), here.dist(a, b), here.squared_dist(a, b), here.exp(a, zero), here.norm(a, zero),
            here.transport(a, b, u), here.transport(a, b, zero),
        ):  # fmt: skip
            if not value.requires_grad:
                continue  # flat transport changes nothing, and depends on nothing but the vector
            inputs = [a, b, zero, *([K] if K is not None else [])]
            gradients = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
            assert all(g is None or torch.isfinite(g).all() for g in gradients)
        assert all(not g.any() for g in torch.autograd.grad(here.dist(a, b).sum(), (a, b)))
        assert not torch.autograd.grad(here.norm(a, zero).sum(), zero)[0].any()


@hyperbolic
def test_gradients_at_the_origin_are_finite_for_its_own_maps(space):
    x = space.origin_like(torch.zeros(2, 4, dtype=torch.float64))
    for function in (space.log0, lambda u: space.exp0(u - x)):
        a = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(a)[..., 1:].sum(), a)
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(
            gradient[..., 1:], torch.ones(2, 3, dtype=torch.float64), rtol=1e-12, atol=0
        )


@spaces
@pytest.mark.parametrize("d", [2, 64])
def test_other_dimensions(space, d):
    x, y, u, _ = random_case(space, 0, shape=(5, d))
    x = space.exp(space.origin_like(x), 0.3 * space.log(space.origin_like(x), x))
    torch.testing.assert_close(space.exp(x, space.log(x, y)), y, rtol=1e-6, atol=1e-6)
    assert space.transport(x, y, u).shape == (5, d)


# ---- the edge of the ball and of the sphere


@dtypes
@pytest.mark.parametrize("room", [1e-2, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("K", CURVATURES)
def test_ball_keeps_its_digits_near_the_boundary(K, room, dtype):
    """Moving a coordinate there by a unit in the last place is a step of eps / room: no verb may lose more."""
    room = max(room, 1e4 * eps(dtype))
    ball = PoincareBall(K)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    x = (x / x.norm(dim=-1, keepdim=True) * (1 - room) / (-K) ** 0.5).to(dtype)
    inside = ball.random(60, 3, generator=generator, dtype=dtype) * 0.5
    slack = 100 * eps(dtype) / room
    u = shortened(ball, x, ball.random_tangent(x, generator), 0.7)
    neighbour = ball.exp(x, u)
    for y in (inside, neighbour):
        assert ball.dist(ball.exp(x, ball.log(x, y)), y).max() < slack
        assert ball.dist(ball.exp(y, ball.log(y, x)), x).max() < slack
    for y in (inside, neighbour, -x):
        carried = ball.transport(x, y, u)
        assert (ball.norm(y, carried) / ball.norm(x, u) - 1).abs().max() < slack
        back = ball.transport(y, x, carried)
        assert (ball.norm(x, back - u) / ball.norm(x, u)).max() < slack
    torch.testing.assert_close(ball.transport(x, x, u), u, rtol=8 * eps(dtype), atol=0)
    torch.testing.assert_close(ball.norm(x, u), ball.dist(x, neighbour), rtol=0, atol=slack)


@dtypes
def test_ball_exp_of_long_vectors_stays_inside(dtype):
    ball = PoincareBall(-2.3)
    x, _, u, _ = random_case(ball, 0, dtype)
    for scale in (1e2, 1e4, 1e8):
        a = (scale * u).requires_grad_()
        y = ball.exp(x, a)
        ball.check(y.detach())
        # It ends where the geodesic does, not at x.
        assert (2.3**0.5 * y.norm(dim=-1) > 1 - 2 * eps(dtype) ** 0.5).all()
        (gradient,) = torch.autograd.grad(y.sum(), a)
        assert torch.isfinite(gradient).all()


@dtypes
def test_sphere_has_its_digits_near_the_antipode(dtype):
    sphere = Sphere()
    x, _, u, _ = random_case(sphere, 0, dtype)
    for gap in (1e-1, 1e-3, 1e-5, 1e-7):
        # The antipode, moved by a little: by construction at distance pi - gap.
        y = sphere.exp(-x, shortened(sphere, -x, u, gap))
        torch.testing.assert_close(
            math.pi - sphere.dist(x, y), torch.full((len(x),), gap, dtype=dtype), rtol=0, atol=40 * eps(dtype)
        )
        torch.testing.assert_close(sphere.exp(x, sphere.log(x, y)), y, rtol=0, atol=40 * eps(dtype))


@dtypes
def test_sphere_is_finite_at_the_antipode(dtype):
    sphere = Sphere()
    x = sphere.random(5, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    a, b = x.clone().requires_grad_(), (-x).requires_grad_()
    assert_near(sphere.dist(a, b), torch.full((5,), math.pi, dtype=dtype), dtype, 4)
    log = sphere.log(a, b)
    assert torch.isfinite(log).all()
    for value in (log, sphere.dist(a, b), sphere.squared_dist(a, b)):
        assert all(
            torch.isfinite(g).all() for g in torch.autograd.grad(value.sum(), (a, b), retain_graph=True)
        )


def test_hyperboloid_measures_far_points():
    """At x_0 = 1e9 the coordinates still have their digits, and the distance to the origin is known: arcosh."""
    sheet = Hyperboloid(-1.0)
    x = sheet.project(torch.tensor([[0.0, 1e9, 0.0], [0.0, 0.0, 1e4]], dtype=torch.float64))
    origin = sheet.origin_like(x)
    torch.testing.assert_close(sheet.dist(x, origin), torch.acosh(x[:, 0]), rtol=1e-14, atol=0)
    torch.testing.assert_close(sheet.exp(origin, sheet.log(origin, x)), x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        sheet.dist(x[0], x[1]), torch.acosh(-lorentz(x[0], x[1])[0]), rtol=1e-14, atol=0
    )


# ---- the flat limit


@pytest.mark.parametrize("verb", ["exp", "log", "dist", "transport"])
def test_ball_tends_to_flat_space(verb):
    """With the factor 4 that the metric of the ball keeps; the error halves with the curvature."""
    generator = torch.Generator().manual_seed(0)
    x, y, u = (torch.randn(10, 3, generator=generator, dtype=torch.float64) * 0.4 for _ in range(3))
    flat = {"exp": x + u, "log": y - x, "dist": 2 * (y - x).norm(dim=-1), "transport": u}[verb]

    def error(K):
        arguments = {"exp": (x, u), "log": (x, y), "dist": (x, y), "transport": (x, y, u)}[verb]
        return (getattr(PoincareBall(K), verb)(*arguments) - flat).norm().item()

    assert error(-1e-12) < 1e-10
    order = 2 if verb == "transport" else 1  # for transport the term of first order is a rotation and a scale
    assert 1.9 < error(-2e-4) / error(-1e-4) < 2.1 * order


# ---- errors


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
@pytest.mark.parametrize("bad", [0.0, 1.0, -math.inf, math.nan, torch.tensor(0.5)])
def test_curvature_must_be_negative(kind, bad):
    with pytest.raises(ValueError, match=r"curvature must be negative; got .*Euclidean\(\)"):
        kind(bad)


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
def test_every_curvature_of_a_batch_must_be_negative(kind):
    space = kind(torch.tensor([-1.0, -2.0]))
    assert repr(space) == f"{kind.__name__}(curvature=(2,) numbers)"
    for bad in (0.0, 1.0, math.nan, -math.inf):
        with pytest.raises(ValueError, match="curvature must be negative"):
            kind(torch.tensor([-1.0, bad]))
    x = space.project(torch.tensor([[2.0, 0.9, 0.0], [2.0, 0.9, 0.0]]))
    space.check(x)
    with pytest.raises(ValueError, match="points must lie"):
        kind(torch.tensor([-1.0, -4.0])).check(x)
    with pytest.raises(ValueError, match="points must lie"):
        space.dist(x.flip(0) * (1 + 1e-2), x)


def test_single_precision_says_where_it_has_no_digits_left():
    x = torch.tensor([[0.6, 0.8], [0.0, 0.5]])
    PoincareBall(-4.0).check(0.4999 * x)
    for ball, far in ((PoincareBall(), 0.99999), (PoincareBall(-4.0), 0.499995)):
        with pytest.warns(RuntimeWarning, match=r"points as near the boundary as 2e-05 .* use .double\(\)"):
            ball.check(far * x)
        ball.check(far * x.double())


def test_curvature_of_one_entry_is_a_number():
    K = torch.tensor([-0.5], requires_grad=True)
    ball = PoincareBall(K)
    assert ball.curvature.shape == ()
    assert repr(ball) == "PoincareBall(curvature=-0.5)"
    (gradient,) = torch.autograd.grad(ball.dist(torch.zeros(2), torch.tensor([0.3, 0.4])), K)
    assert gradient.shape == (1,)


@dtypes
@pytest.mark.parametrize("K", CURVATURES)
def test_ball_names_the_worst_point(K, dtype):
    ball = PoincareBall(K)
    x = torch.zeros(2, 3, 2, dtype=dtype)
    x[1, 2, 0] = 1.25 / (-K) ** 0.5
    x[0, 0, 1] = 1.1 / (-K) ** 0.5
    with pytest.raises(
        ValueError,
        match=rf"inside the ball of radius {(-K) ** -0.5:.6g}, got one of norm {1.25 * (-K) ** -0.5:.6g}"[
            :-1
        ],
    ):
        ball.check(x)
    x[1, 2, 0] = x[0, 0, 1] = 0
    ball.check(x)
    ball.check(ball.project(x + 99))
    x[0, 0, 0] = (-K) ** -0.5  # on the boundary, or a rounding within it: no room is left to measure in
    with pytest.raises(ValueError, match=r"use PoincareBall\(...\).project"):
        ball.check(x)


@dtypes
def test_hyperboloid_names_the_gap(dtype):
    sheet = Hyperboloid(-0.5)
    x = sheet.random(4, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    sheet.check(x)
    sheet.check(sheet.project(1e4 * x))
    off = x.clone()
    off[2] *= 1.01
    with pytest.raises(
        ValueError, match=r"<x, x>_L = -2, .* misses it by 0\.0.*use Hyperboloid\(...\).project"
    ):
        sheet.check(off)
    with pytest.raises(ValueError, match="upper sheet"):
        sheet.check(-x)
    torch.testing.assert_close(sheet.project(off)[..., 1:], off[..., 1:])


def test_verbs_are_promised_by_the_parent():
    parent, x = Manifold(), torch.zeros(2)
    for call in (
        lambda: parent.project(x), lambda: parent.to_tangent(x, x), lambda: parent.exp(x, x),
        lambda: parent.log(x, x), lambda: parent.dist(x, x), lambda: parent.inner(x, x, x),
        lambda: parent.transport(x, x, x), lambda: parent.random(2), lambda: parent.random_tangent(x),
        lambda: parent.origin_like(x), lambda: parent.dimension_like(x), lambda: parent.from_frame(x, x),
        lambda: parent.log_volume_density(x, x),
    ):  # fmt: skip
        with pytest.raises(NotImplementedError):
            call()
