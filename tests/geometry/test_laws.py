"""The laws of every manifold, each written once: inverses, isometries, frames, volumes, derivatives, shapes, bad input."""

import math

import pytest
import scipy.linalg
import torch

from loupe.geometry import (
    SPD,
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Product,
    SpecialOrthogonal,
    SpecialUnitary,
    Sphere,
    Torus,
)

DOUBLE, SINGLE = torch.float64, torch.float32
N = 12
CURVATURES = -torch.linspace(0.5, 2, N, dtype=DOUBLE)
PARTS = ((Sphere(), 3), (SpecialUnitary(2), (2, 2)), (SPD("log_euclidean"), (2, 2)), (PoincareBall(-0.5), 2))
SPACES = {
    "plane": (Euclidean(), (3,)),
    "circle": (Sphere(), (2,)),
    "sphere": (Sphere(), (4,)),
    "ball": (PoincareBall(-0.7), (3,)),
    "balls": (PoincareBall, (3,)),
    "hyperboloid": (Hyperboloid(-0.7), (4,)),
    "hyperboloids": (Hyperboloid, (3,)),
    "torus": (Torus(3), (3,)),
    "SO3": (SpecialOrthogonal(3), (3, 3)),
    "SU2": (SpecialUnitary(2), (2, 2)),
    "SU3": (SpecialUnitary(3), (3, 3)),
    "affine-invariant": (SPD(), (3, 3)),
    "log-Euclidean": (SPD("log_euclidean"), (3, 3)),
    "product": (Product(*PARTS), (17,)),
}
names = pytest.mark.parametrize("name", SPACES)
# The product is slow, and its factors are tested.
alone = pytest.mark.parametrize("name", [name for name in SPACES if name != "product"])
dtypes = pytest.mark.parametrize("dtype", [DOUBLE, SINGLE], ids=str)
VERBS = {
    "exp": "xu", "log": "xy", "squared_dist": "xy", "dist": "xy", "inner": "xuv", "norm": "xu", "transport": "xyu",
    "to_tangent": "xu", "project": "x", "log_volume_density": "xu", "geodesic": "xyt", "coordinates": "xu",
}  # fmt: skip

# Forward mode loads decompositions that torch itself compiles in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def case(name, dtype=DOUBLE, seed=0, n=N):
    """The manifold, and arguments of verbs by their letters: points a step from each other, tangent vectors, a time."""
    space, shape = SPACES[name]
    if isinstance(space, type):
        space = space(CURVATURES[:n].to(dtype))
    kind = dtype.to_complex() if space.complex else dtype
    draw = generator(seed)
    origin = space.origin_like(torch.zeros(n, *shape, dtype=kind))
    x = space.exp(origin, 0.5 * space.random_tangent(origin, draw))
    u, v = (0.4 * space.random_tangent(x, draw) for _ in "uv")
    y = space.exp(x, 0.6 * space.random_tangent(x, draw))
    t = torch.rand(n, generator=draw, dtype=DOUBLE).to(dtype)
    return space, {"x": x, "y": y, "u": u, "v": v, "t": t}


def arguments(verb, letters):
    return [letters[letter] for letter in VERBS[verb]]


def near(found, wanted, dtype=DOUBLE, slack=1.0):
    tolerance = slack * {DOUBLE: 1e-11, SINGLE: 3e-5}[dtype]
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@names
@dtypes
def test_points_projections_and_origins(name, dtype):
    space, letters = case(name, dtype)
    x, u, y = (letters[k] for k in "xuy")
    lead, shape = ((N,) if name.endswith("s") and name != "torus" else (2, N)), x.shape[1:]
    z = space.random(*lead, *shape, generator=generator(3), dtype=x.dtype)
    assert z.shape == (*lead, *shape)
    assert z.dtype == x.dtype
    assert torch.equal(z, space.random(*lead, *shape, generator=generator(3), dtype=x.dtype))
    near(space.project(z), z, dtype)
    moved = space.project(z + 0.02 * torch.randn(z.shape, generator=generator(4), dtype=z.dtype))
    near(space.project(moved), moved, dtype)
    for points in (z, moved, space.origin_like(z), space.exp(x, u), space.geodesic(x, y, 0.3)):
        space.check(points)
    tangent = space.to_tangent(x, u + 0.1 * y)
    near(space.to_tangent(x, tangent), tangent, dtype)
    near(space.to_tangent(x, u), u, dtype)
    near(space.exp0(space.log0(x)), x, dtype)


@names
@dtypes
def test_exp_log_and_distance(name, dtype):
    space, letters = case(name, dtype)
    x, y, u = (letters[k] for k in "xyu")
    z = space.exp(x, u)
    near(space.log(x, z), u, dtype)
    near(space.exp(x, space.log(x, y)), y, dtype)
    near(space.dist(x, z), space.norm(x, u), dtype)
    near(space.dist(x, y), space.norm(x, space.log(x, y)), dtype)
    near(space.dist(x, y), space.dist(y, x), dtype)
    near(space.squared_dist(x, y), space.dist(x, y).square(), dtype)
    assert (space.dist(x, y) <= space.dist(x, z) + space.dist(z, y) + 1e-6).all()
    assert (space.dist(x, x) < 1e-3 if dtype == SINGLE else space.dist(x, x) < 1e-7).all()
    # A short vector is known to as many digits as coordinates have.
    short = {DOUBLE: 1e-6, SINGLE: 1e-3}[dtype]
    near(space.log(x, space.exp(x, short * u)) / short, u, dtype, 1e3)


@names
@dtypes
def test_transport_and_geodesics(name, dtype):
    space, letters = case(name, dtype)
    x, y, u, v, t = (letters[k] for k in "xyuvt")
    there = space.transport(x, y, u)
    near(space.inner(y, there, space.transport(x, y, v)), space.inner(x, u, v), dtype)
    near(space.transport(y, x, there), u, dtype)
    near(space.to_tangent(y, there), there, dtype)
    near(space.transport(x, y, space.log(x, y)), -space.log(y, x), dtype)
    near(space.transport(x, x, u), u, dtype)
    near(space.geodesic(x, y, 0), x, dtype)
    near(space.geodesic(x, y, 1.0), y, dtype)
    middle = space.geodesic(x, y, t)
    near(space.dist(x, middle), t * space.dist(x, y), dtype)
    near(space.dist(middle, y), (1 - t) * space.dist(x, y), dtype)
    cosine = space.inner(x, u, v) / (space.norm(x, u) * space.norm(x, v))
    assert (cosine.abs() <= 1 + 1e-5).all()


@names
@dtypes
def test_frames_are_orthonormal(name, dtype):
    space, letters = case(name, dtype)
    x, u, axis = letters["x"], letters["u"], -1 - space.ndim
    frame, dimension = space.frame(x), space.dimension_like(x)
    assert frame.shape == (N, dimension, *x.shape[1:])
    gram = (
        space.beside()
        .beside()
        .inner(x.unsqueeze(axis).unsqueeze(axis), frame.unsqueeze(axis - 1), frame.unsqueeze(axis))
    )
    near(gram, torch.eye(dimension, dtype=dtype).expand_as(gram), dtype)
    a = space.coordinates(x, u)
    near(space.from_frame(x, a), u, dtype)
    near(space.beside().inner(x.unsqueeze(axis), frame, u.unsqueeze(axis)), a, dtype)
    near(a.square().sum(-1), space.inner(x, u, u), dtype)


@names
def test_random_tangents_are_standard_normal(name):
    space, letters = case(name)
    space = type(space)(CURVATURES[0]) if isinstance(SPACES[name][0], type) else space
    x = letters["x"][:1].expand(4000, *letters["x"].shape[1:])
    a = space.coordinates(x, space.random_tangent(x, generator(1)))
    near(a.T @ a / 4000, torch.eye(a.shape[1], dtype=DOUBLE), slack=1e10)  # a tenth: six standard errors


# ---- volumes and divergences


def field_on(space, shape):
    """A tangent field that bends."""
    mix = torch.randn(*shape, *shape, generator=generator(9), dtype=DOUBLE)

    def field(x):
        values = (1.3 * x.real + (x.imag if x.is_complex() else 0)).sin()
        ambient = torch.tensordot(values, mix, dims=len(shape))
        return space.to_tangent(x, ambient.to(x.dtype) * (1 + 0.5j if x.is_complex() else 1))

    return field


def each_by_itself(space, function, *tensors):
    """The function of one element of the batch at a time, with its own curvature."""
    K = getattr(space, "curvature", None)
    several = isinstance(K, torch.Tensor) and K.dim()
    kinds = [type(space)(one) for one in K] if several else [space] * len(tensors[0])
    return torch.stack(
        [function(kind, *rows) for kind, *rows in zip(kinds, *tensors, strict=len(kinds) == len(tensors[0]))]
    )


def jacobian(function, a):
    return torch.autograd.functional.jacobian(function, a)


@names
def test_volume_density_is_the_determinant_of_exp(name):
    space, letters = case(name, n=3)

    def by_autograd(space, x, u):
        end = space.exp(x, u)

        def coordinates(a):
            return space.coordinates(end, space.log(end, space.exp(x, space.from_frame(x, a))))

        return torch.linalg.slogdet(jacobian(coordinates, space.coordinates(x, u)))[1]

    x, u = letters["x"], 2 * letters["u"]
    near(space.log_volume_density(x, u), each_by_itself(space, by_autograd, x, u))
    near(space.log_volume_density(x, 0 * u), torch.zeros(3, dtype=DOUBLE))


@names
def test_divergence_is_the_trace_in_normal_coordinates(name):
    space, letters = case(name, n=3)
    x = letters["x"]

    def by_transport(space, x):
        field = field_on(space, x.shape)

        def coordinates(a):
            y = space.exp(x, space.from_frame(x, a))
            return space.coordinates(x, space.transport(y, x, field(y)))

        return jacobian(coordinates, torch.zeros(space.dimension_like(x), dtype=DOUBLE)).trace()

    field = field_on(space, x.shape[1:])
    exact = space.divergence(field, x)
    near(exact, each_by_itself(space, by_transport, x), slack=100)
    # All signs of two columns: noise of covariance 1 has the divergence for its mean.
    dimension = space.dimension_like(x)
    signs = torch.tensor(scipy.linalg.hadamard(2 ** math.ceil(math.log2(dimension + 1))), dtype=DOUBLE)
    estimates = [space.divergence(field, x, row) for row in signs[:, :dimension]]
    near(torch.stack(estimates).mean(0), exact, slack=10)


def test_divergence_is_differentiable_in_the_field_and_the_point():
    space, x = Sphere(), case("sphere")[1]["x"]
    weight = torch.randn(4, 4, generator=generator(2), dtype=DOUBLE, requires_grad=True)

    def value(weight, x):
        return space.divergence(lambda y: space.to_tangent(y, (y @ weight).tanh()), space.project(x))

    assert torch.autograd.gradcheck(value, (weight, x[:2].clone().requires_grad_()))


# ---- derivatives


def smooth(space, x, letters):
    """Numbers by all verbs, of coordinates (a, b) around points: two points and two vectors."""
    u, v = space.coordinates(x, letters["u"]), space.coordinates(x, letters["v"])

    def value(a, b):
        p, q = (space.exp(x, space.from_frame(x, c)) for c in (a, b))
        w = space.to_tangent(p, space.from_frame(p, u))
        carried = space.transport(p, q, w)
        return (
            space.squared_dist(p, q)
            + space.inner(p, space.log(p, q), w)
            + space.inner(q, carried, space.from_frame(q, v))
            + space.log_volume_density(q, carried)
        )

    return value, (u, 0.7 * v)


@alone
def test_first_and_second_derivatives(name):
    space, letters = case(name, n=2)
    value, inputs = smooth(space, letters["x"], letters)
    inputs = [a.clone().requires_grad_() for a in inputs]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True, atol=1e-4)


@names
def test_derivatives_where_points_coincide(name):
    """Half the squared distance has the metric for its second derivative: at the origin, whose eigenvalues are equal."""
    space, letters = case(name, n=2)
    for x in (letters["x"], space.origin_like(letters["x"])):
        zero = torch.zeros(2, space.dimension_like(x), dtype=DOUBLE)

        def half(a, x=x):
            return 0.5 * space.squared_dist(x, space.exp(x, space.from_frame(x, a))).sum()

        eye = torch.einsum("ab,ij->aibj", torch.eye(2, dtype=DOUBLE), torch.eye(zero.shape[1], dtype=DOUBLE))
        for hessian in (torch.autograd.functional.hessian(half, zero), torch.func.hessian(half)(zero)):
            near(hessian, eye)
        at = zero.clone().requires_grad_()
        distance = space.dist(x, space.exp(x, space.from_frame(x, at)))
        assert not torch.autograd.grad(distance[distance == 0].sum(), at, allow_unused=True)[0].any()
        density = torch.func.hessian(lambda a, x=x: space.log_volume_density(x, space.from_frame(x, a)).sum())
        assert density(zero).isfinite().all()


@pytest.mark.parametrize("name", ["ball", "balls", "hyperboloid", "hyperboloids"])
def test_curvature_reaches_gradients(name):
    space, letters = case(name)
    kind = type(space)
    K = torch.as_tensor(space.curvature, dtype=DOUBLE).clone().requires_grad_()
    for verb in VERBS:
        given = arguments(verb, letters)
        assert torch.autograd.gradcheck(lambda K, v=verb, g=given: getattr(kind(K), v)(*g), K), verb


# ---- torch.func, torch.compile, autocast, shapes


@names
def test_transforms_of_torch_func(name):
    space, letters = case(name)
    K = getattr(space, "curvature", 0.0)
    several = isinstance(K, torch.Tensor)
    for verb in VERBS:
        given = arguments(verb, letters)
        wanted = getattr(space, verb)(*given)

        def one(K, *given, verb=verb):
            return getattr(type(space)(K) if several else space, verb)(*given)

        near(torch.func.vmap(one, in_dims=(0 if several else None, *[0] * len(given)))(K, *given), wanted)
        if space.complex:
            continue
        # Both modes, and autograd, of one number.
        forward, reverse = (
            mode(lambda x, v=verb, g=given: getattr(space, v)(x, *g[1:]).sum())(given[0])
            for mode in (torch.func.jacfwd, torch.func.grad)
        )
        near(space.to_tangent(given[0], forward), space.to_tangent(given[0], reverse), slack=1e3)


@alone
def test_one_graph_of_torch_compile(name):
    space, letters = case(name, n=2)

    def several(x, y, u):
        z = space.exp(x, space.transport(x, x, u))
        return space.squared_dist(z, y), space.log(x, z), space.log_volume_density(x, u)

    given = letters["x"], letters["y"], letters["u"]
    for found, wanted in zip(
        torch.compile(several, backend="eager", fullgraph=True)(*given), several(*given), strict=True
    ):
        near(found, wanted)
    torch.compiler.reset()


@names
def test_autocast_leaves_the_precision(name):
    space, letters = case(name, SINGLE)
    for verb in VERBS:
        wanted = getattr(space, verb)(*arguments(verb, letters))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = getattr(space, verb)(*arguments(verb, letters))
        near(found, wanted, SINGLE)


@names
def test_leading_shapes_broadcast(name):
    space, letters = case(name)
    if isinstance(SPACES[name][0], type):
        space = type(space)(CURVATURES.reshape(3, 4))
    rows = {k: v.reshape(3, 4, *v.shape[1:]) for k, v in letters.items()}
    wide = {k: v[:, :, None].expand(-1, -1, 1 if k in "xt" else 5, *v.shape[2:]) for k, v in rows.items()}
    for verb in VERBS:
        wanted = getattr(space, verb)(*arguments(verb, rows)).unsqueeze(2)
        found = getattr(space.beside(), verb)(*arguments(verb, wide))
        assert found.shape[:3] == (3, 4, 1 if verb == "project" else 5)
        near(found, wanted.expand_as(found))


# ---- bad input


@names
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE], ids=str)
def test_bad_input(name, dtype):
    space, letters = case(name, dtype)
    bad = letters["x"].clone()
    bad.view(N, -1)[1, 0] = math.nan
    for verb in VERBS:
        given = arguments(verb, letters | {"x": bad})
        found = getattr(space, verb)(*given).reshape(N, -1)
        assert found.isnan().any(-1).tolist() == [k == 1 for k in range(N)], verb
        with pytest.raises(ValueError, match="must be tensors, got list"):
            getattr(space, verb)(given[0].tolist(), *given[1:]) if verb != "project" else space.check([0.0])
    for value in (math.nan, math.inf, -math.inf):
        bad.view(N, -1)[1, 0] = value
        with pytest.raises(ValueError, match=rf"must be finite, got .*{value}"):
            space.check(bad)
    for verb in ("log", "transport"):
        given = arguments(verb, letters)
        with pytest.raises(ValueError, match=r"same number of coordinates|must have shape|square"):
            getattr(space, verb)(given[0][..., :1], *given[1:])
    with pytest.raises(ValueError, match=r"numbers, got torch\.int64"):
        space.dist(letters["x"].real.long(), letters["y"].real.long())


@pytest.mark.parametrize(
    "name", ["circle", "ball", "hyperboloids", "SO3", "SU3", "affine-invariant", "product"]
)
def test_points_off_the_manifold(name):
    space, letters = case(name)
    off = letters["x"].clone()
    off[2] = -3.0 * off[2]
    for call in (
        lambda: space.check(off),
        lambda: space.dist(off, off),
        lambda: space.exp(off, letters["u"]),
    ):
        with pytest.raises(ValueError, match=r"points must .*project"):
            call()
    found = torch.compile(space.dist, backend="eager", fullgraph=True)(off, letters["y"])
    assert found.isnan().tolist() == [k == 2 for k in range(N)]
    torch.compiler.reset()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Torus(0), lambda: SpecialOrthogonal(4), lambda: SpecialUnitary(1), lambda: SPD("stein"), lambda: Product(),
        lambda: Product((Torus(2), 3)), lambda: Euclidean().log_volume_like(torch.zeros(2)),
        lambda: Product(*PARTS).random(3, 4), lambda: SPD().check(torch.zeros(2, 3)), lambda: SPD().mean(0, 0, 0, 0),
        lambda: Sphere().log_volume_like(3),
    ],
)  # fmt: skip
def test_refusals(build):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        build()


@pytest.mark.parametrize(
    ("space", "shape", "wanted"),
    [(SpecialOrthogonal(3), (4,), "3, 3"), (Torus(2), (5, 3), "2"), (SpecialUnitary(2), (3, 3), "2, 2")],
)
def test_random_points_are_asked_for_in_the_shape_of_points(space, shape, wanted):
    with pytest.raises(ValueError, match=rf"must have shape \(\.\.\., {wanted}\), got \({shape[0]},"):
        space.random(*shape)
