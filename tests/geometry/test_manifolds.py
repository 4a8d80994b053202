"""Laws of the eight verbs on every manifold: inverses, isometries, two charts of one space, gradients, edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

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
VERBS = ("exp", "log", "squared_dist", "dist", "inner", "norm", "transport", "to_tangent", "project")

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


# ---- points and vectors


@spaces
@dtypes
@seeds
def test_random_points_lie_on_the_manifold(space, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x = space.random(3, 50, 4, generator=generator, dtype=dtype)
    assert x.shape == (3, 50, 4)
    assert x.dtype == dtype
    space.check(x)
    assert torch.equal(x, space.random(3, 50, 4, generator=generator.manual_seed(seed), dtype=dtype))


@spaces
def test_random_tangents_are_standard_normal(space):
    x = space.random(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(20_000, 4)
    u = space.random_tangent(x, generator=torch.Generator().manual_seed(1))
    dimension = 3 if isinstance(space, (Sphere, Hyperboloid)) else 4
    gram = space.inner(x[:1], u[:, None], u[None, :64])  # products with 64 of them
    assert_near(space.to_tangent(x, u), u, torch.float64, 2000)
    assert space.inner(x, u, u).mean().item() == pytest.approx(dimension, rel=0.03)
    # In orthonormal coordinates the second moment is the identity: the mean of <u, v>**2 is |v|**2 for every v.
    torch.testing.assert_close(gram.square().mean(0), space.inner(x[:64], u[:64], u[:64]), rtol=0.12, atol=0)
    assert (gram.mean(0) / space.norm(x[:64], u[:64])).abs().max() < 0.04


@spaces
@dtypes
def test_project_is_idempotent_and_keeps_points(space, dtype):
    x, _, u, _ = random_case(space, 0, dtype)
    near = space.project(x + 0.1 * u)
    space.check(near)
    assert_near(space.project(near), near, dtype, 4)
    assert_near(space.project(x), x, dtype, 4)
    far = space.project(7 * x)
    space.check(far)
    assert_near(space.project(far), far, dtype, 4)


@spaces
@dtypes
def test_to_tangent_is_a_projection(space, dtype):
    x, y, u, v = random_case(space, 0, dtype)
    ambient = u + y
    tangent = space.to_tangent(x, ambient)
    assert_near(space.to_tangent(x, tangent), tangent, dtype)
    assert_near(space.to_tangent(x, u), u, dtype)
    # What is taken away is normal to every tangent vector, in the metric of the ambient space.
    if isinstance(space, (Sphere, Hyperboloid)):
        product = space.inner(x, ambient - tangent, v)
        assert_near(product, torch.zeros_like(product), dtype, 1000)


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


@spaces
def test_origin_is_a_point_and_curvature_reaches_it(space):
    x = space.random(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    origin = space.origin_like(x)
    assert origin.shape == x.shape
    assert origin.dtype == x.dtype
    space.check(origin)


# ---- geodesics


@spaces
@dtypes
@seeds
@pytest.mark.parametrize("length", [1e-8, 1e-4, 0.1, 3.0])
def test_log_inverts_exp(space, dtype, seed, length):
    x, _, u, _ = random_case(space, seed, dtype)
    u = shortened(space, x, u, max(length, 1e3 * eps(dtype)))
    y = space.exp(x, u)
    space.check(y)
    # A point far out is known to a unit in the last place of its coordinates only.
    stretch = _stretch(space, x, y)
    torch.testing.assert_close(
        space.log(x, y), u, rtol=0, atol=40 * eps(dtype) * stretch * max(1.0, u.abs().max().item())
    )


@spaces
@dtypes
@seeds
def test_exp_inverts_log(space, dtype, seed):
    x, y, _, _ = random_case(space, seed, dtype)
    back = space.exp(x, space.log(x, y))
    space.check(back)
    stretch = _stretch(space, x, y)
    torch.testing.assert_close(back, y, rtol=0, atol=20 * eps(dtype) * stretch * y.abs().max().item())


def _stretch(space, *points):
    """By how much a rounding of coordinates may be magnified."""
    if isinstance(space, PoincareBall):
        return max((space.conformal_factor(p)).max().item() for p in points) ** 2
    if isinstance(space, Hyperboloid):
        return max((p[..., 0].square().max() * -space.curvature).item() for p in points) ** 1.0 * 4
    return 1.0


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
@dtypes
@seeds
def test_dist_is_a_metric(space, dtype, seed):
    x, y, _, _ = random_case(space, seed, dtype)
    z = x.roll(1, dims=0)
    d = space.dist(x, y)
    assert (d > 0).all()
    torch.testing.assert_close(d, space.dist(y, x), rtol=4 * eps(dtype), atol=0)
    assert torch.equal(space.dist(x, x), torch.zeros_like(d))
    assert (d <= (space.dist(x, z) + space.dist(z, y)) * (1 + 20 * eps(dtype))).all()
    torch.testing.assert_close(space.squared_dist(x, y), d.square(), rtol=8 * eps(dtype), atol=0)


@spaces
@dtypes
@seeds
def test_dist_is_the_length_of_log(space, dtype, seed):
    x, y, u, _ = random_case(space, seed, dtype)
    slack = 40 * eps(dtype) * _stretch(space, x, y)
    torch.testing.assert_close(space.dist(x, y), space.norm(x, space.log(x, y)), rtol=slack, atol=0)
    u = shortened(space, x, u, 0.7)
    torch.testing.assert_close(space.dist(x, space.exp(x, u)), space.norm(x, u), rtol=slack, atol=0)


@spaces
def test_norm_and_inner_agree(space):
    x, _, u, v = random_case(space, 0)
    torch.testing.assert_close(space.norm(x, u).square(), space.inner(x, u, u))
    torch.testing.assert_close(space.inner(x, u, v), space.inner(x, v, u))
    cosine = (space.norm(x, u + v).square() - space.norm(x, u - v).square()) / 4
    torch.testing.assert_close(space.inner(x, u, v), cosine)
    assert torch.equal(space.norm(x, 0 * u), torch.zeros_like(cosine))


@spaces
@pytest.mark.parametrize("time", [0.0, 0.4, 2.0])
def test_geodesics_carry_their_own_velocity(space, time):
    x, _, u, _ = random_case(space, 1)
    u = shortened(space, x, u, 0.9)
    y, velocity = jvp(
        lambda s: space.exp(x, s * u), (torch.tensor(time).double(),), (torch.ones(()).double(),)
    )
    torch.testing.assert_close(velocity, space.transport(x, y, u), rtol=1e-11, atol=1e-11)


# ---- transport


@spaces
@dtypes
@seeds
def test_transport_is_an_isometry_with_an_inverse(space, dtype, seed):
    x, y, u, v = random_case(space, seed, dtype)
    there_u, there_v = space.transport(x, y, u), space.transport(x, y, v)
    slack = 100 * eps(dtype) * (1 if isinstance(space, (Euclidean, Sphere)) else _stretch(space, x, y) / 4)
    scale = space.norm(x, u) * space.norm(x, v)
    assert ((space.inner(y, there_u, there_v) - space.inner(x, u, v)).abs() / scale).max() < slack
    back = space.transport(y, x, there_u)
    assert ((back - u).norm(dim=-1) / u.norm(dim=-1)).max() < slack
    assert_near(space.to_tangent(y, there_u), there_u, dtype, slack / eps(dtype))


@spaces
@dtypes
@seeds
def test_transport_reverses_log(space, dtype, seed):
    x, y, _, _ = random_case(space, seed, dtype)
    slack = 100 * eps(dtype) * _stretch(space, x, y)
    there, back = space.transport(x, y, space.log(x, y)), -space.log(y, x)
    torch.testing.assert_close(there, back, rtol=0, atol=slack * back.abs().max().item())


@spaces
def test_transport_to_itself_is_the_identity(space):
    x, _, u, _ = random_case(space, 0)
    torch.testing.assert_close(
        space.transport(x, x, u), u, rtol=0, atol=60 * eps(u.dtype) * u.abs().max().item()
    )


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


def test_sphere_agrees_with_the_textbook():
    space = Sphere()
    x, y, u, _ = random_case(space, 0)
    cosine = (x * y).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    torch.testing.assert_close(space.dist(x, y), angle[..., 0], rtol=1e-12, atol=0)
    torch.testing.assert_close(space.log(x, y), angle / angle.sin() * (y - cosine * x))
    length = u.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(space.exp(x, u), length.cos() * x + length.sin() * u / length)


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
    for squares in (
        ball.squared_dist(x, ball.origin_like(x)),
        sheet.squared_dist(y, sheet.origin_like(y)),
    ):
        assert squares.mean().item() == pytest.approx(3, rel=0.06)
        assert squares.var().item() == pytest.approx(6, rel=0.2)


# ---- gradients


def curved(kind, K):
    """The manifold, with its curvature where it takes one."""
    return kind() if K is None else kind(K)


KINDS = {
    "Euclidean": (Euclidean, None),
    "Sphere": (Sphere, None),
    **{f"{kind.__name__}({K})": (kind, K) for kind in (PoincareBall, Hyperboloid) for K in CURVATURES},
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", KINDS)
def test_gradients_in_points_vectors_and_curvature(name, verb):
    kind, K = KINDS[name]
    arguments = {
        "exp": "xu", "log": "xy", "squared_dist": "xy", "dist": "xy", "inner": "xuv", "norm": "xu",
        "transport": "xyu", "to_tangent": "xu", "project": "x",
    }[verb]  # fmt: skip
    x, y, u, v = random_case(curved(kind, K), 5, shape=(2, 3))
    inputs = [{"x": x, "y": y, "u": 0.5 * u, "v": v}[letter].requires_grad_() for letter in arguments]
    if K is None:
        assert torch.autograd.gradcheck(getattr(kind(), verb), inputs)
        return
    K = torch.tensor(K, dtype=torch.float64, requires_grad=True)
    # Points move off the manifold as numbers are nudged; every verb is smooth there too.
    assert torch.autograd.gradcheck(lambda K, *rest: getattr(kind(K), verb)(*rest), (K, *inputs))


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


@spaces
def test_exp_and_log_start_as_the_identity(space):
    x, _, u, v = random_case(space, 0, shape=(3, 4))
    _, moved = jvp(lambda u: space.exp(x, u), (torch.zeros_like(u),), (u,))
    torch.testing.assert_close(moved, u, rtol=1e-12, atol=1e-12)
    _, seen = jvp(lambda y: space.log(x, y), (x,), (u,))
    torch.testing.assert_close(seen, u, rtol=1e-12, atol=1e-12)

    # Half the squared distance has the metric for its second derivative.
    s, t = torch.zeros(2, 3, 1, dtype=torch.float64, requires_grad=True).unbind()
    half = 0.5 * space.squared_dist(x, x + s * u + t * v)
    (slope,) = torch.autograd.grad(half.sum(), s, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), t)
    torch.testing.assert_close(second[:, 0], space.inner(x, u, v), rtol=1e-11, atol=1e-11)


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


# ---- shapes


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "project"])
@spaces
@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), data=st.data())
@settings(deadline=None, max_examples=4, derandomize=True)
def test_leading_shapes_broadcast(space, verb, shapes, data):
    leads = shapes.input_shapes
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x, y = (space.random(*lead, 3, generator=generator, dtype=torch.float64) for lead in leads[:2])
    u = 0.5 * torch.randn(*leads[2], 3, generator=generator, dtype=torch.float64)
    arguments = {
        "exp": (x, u), "log": (x, y), "squared_dist": (x, y), "dist": (x, y), "inner": (x, u, u), "norm": (x, u),
        "transport": (x, y, u), "to_tangent": (x, u),
    }[verb]  # fmt: skip
    found = getattr(space, verb)(*arguments)
    lead = torch.broadcast_shapes(*(a.shape[:-1] for a in arguments))
    assert found.shape == (*lead, *(() if verb in ("squared_dist", "dist", "inner", "norm") else (3,)))
    wide = [a.expand(*lead, 3).reshape(-1, 3) for a in arguments]
    rows = [getattr(space, verb)(*row) for row in zip(*wide, strict=True)]
    if rows:
        torch.testing.assert_close(
            found.reshape(len(rows), *rows[0].shape), torch.stack(rows), rtol=1e-12, atol=1e-12
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
def test_curvature_must_be_one_number(kind):
    with pytest.raises(ValueError, match=r"one number, got a tensor of shape \(2,\)"):
        kind(torch.tensor([-1.0, -2.0]))


def test_curvature_of_one_entry_is_a_number():
    K = torch.tensor([-0.5], requires_grad=True)
    ball = PoincareBall(K)
    assert ball.curvature.shape == ()
    assert repr(ball) == "PoincareBall(curvature=-0.5)"
    (gradient,) = torch.autograd.grad(ball.dist(torch.zeros(2), torch.tensor([0.3, 0.4])), K)
    assert gradient.shape == (1,)


@spaces
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_points_must_be_finite(space, bad):
    x, _, _, _ = random_case(space, 0, shape=(3, 4))
    space.check(x)
    x[1, 2] = bad
    with pytest.raises(ValueError, match=f"points must be finite, got {bad}"):
        space.check(x)


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


@dtypes
def test_sphere_names_the_norm(dtype):
    sphere = Sphere()
    x = sphere.random(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[1, 2] *= 1.5
    with pytest.raises(ValueError, match=r"unit sphere, got one of norm 1\.[45].*Sphere\(\)\.project"):
        sphere.check(x)


def test_verbs_are_promised_by_the_parent():
    parent, x = Manifold(), torch.zeros(2)
    for call in (
        lambda: parent.project(x), lambda: parent.to_tangent(x, x), lambda: parent.exp(x, x),
        lambda: parent.log(x, x), lambda: parent.dist(x, x), lambda: parent.inner(x, x, x),
        lambda: parent.transport(x, x, x), lambda: parent.random(2), lambda: parent.random_tangent(x),
        lambda: parent.origin_like(x),
    ):  # fmt: skip
        with pytest.raises(NotImplementedError):
            call()
