"""Matrix manifolds and the torus at their edges: other sizes, cut loci, wide distributions, dtypes, and wrong shapes."""

import math

import pytest
import torch
from test_laws import DOUBLE, SINGLE, generator, near

from loupe.geometry import SPD, SpecialOrthogonal, SpecialUnitary, Torus, WrappedNormal

# Forward mode loads decompositions that torch itself compiles in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

COMPLEX = torch.complex128
AFFINE, FLAT = SPD(), SPD("log_euclidean")


def matrices(n, kind, count=20):
    """Random matrices, and the unitary ones of their polar decompositions, of determinant 1."""
    a = torch.randn(count, n, n, dtype=kind, generator=generator())
    a = a if kind.is_complex else a * torch.linalg.det(a).sgn()[:, None, None]
    u, s, v = torch.linalg.svd(a)
    polar = u @ v
    turned = torch.polar(torch.ones(count, dtype=DOUBLE), -torch.linalg.det(polar).angle() / n)[:, None, None]
    return u, s, v, polar * turned if kind.is_complex else polar


@pytest.mark.parametrize(("space", "kind"), [(SpecialOrthogonal(), DOUBLE), (SpecialUnitary(3), COMPLEX)])
def test_projections_of_matrices_of_any_size_and_condition(space, kind):
    u, s, v, wanted = matrices(3, kind)
    for size in (1e-100, 1e-6, 1.0, 1e6, 1e100):
        near(space.project(size * (u * s.unsqueeze(-2)) @ v), wanted)
    near(space.project((u * torch.tensor([1, 1e-3, 1e-6], dtype=kind)) @ v), wanted, slack=100)
    one = ((u * s.unsqueeze(-2)) @ v)[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(space.project, one)
    assert torch.autograd.gradgradcheck(space.project, one)
    assert space.project(torch.zeros(3, 3, dtype=kind)).isnan().all()


def test_unitary_matrices_from_a_real_dtype_are_complex():
    """The fourth moment of the trace is 2 for SU(2), but 3 for phases times rotations."""
    x = SpecialUnitary(2).random(20_000, 2, 2, dtype=DOUBLE, generator=generator())
    assert x.dtype == COMPLEX
    assert x.diagonal(dim1=-2, dim2=-1).sum(-1).abs().pow(4).mean().item() == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("kind", [COMPLEX, torch.complex64])
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-9, 0.0])
def test_unitary_logarithms_near_the_cut_locus(n, gap, kind):
    """Where two angles differ by almost a full turn: distances are known, and so is the gradient of their square."""
    space, dtype = SpecialUnitary(n), kind.to_real()
    frame = SpecialUnitary(n).random(20, n, n, dtype=COMPLEX, generator=generator())
    angles = torch.tensor([math.pi - gap, gap - math.pi] + [0.0] * (n - 2), dtype=DOUBLE)
    x = space.random(20, n, n, dtype=COMPLEX, generator=generator(1))
    y = (x @ (frame * (1j * angles).exp()) @ frame.mH).to(kind)
    x = x.to(kind).requires_grad_()
    log = space.log(x, y)
    near(space.exp(x, log), y, dtype)
    near(space.dist(x, y), torch.full((20,), angles.norm().item(), dtype=dtype), dtype)
    gradient = space.to_tangent(x, torch.autograd.grad(space.squared_dist(x, y).sum(), x)[0])
    # The direction of the logarithm is known up to the resolution over the gap; at the cut, not at all.
    slack = 100 * torch.finfo(dtype).eps / max(gap, 1e-300)
    if slack < 1:
        assert (gradient + 2 * log).abs().max() < max(slack, 1e-5 if dtype == SINGLE else 1e-11)
    assert gradient.isfinite().all()


def test_unitary_logarithms_under_transforms_agree():
    space = SpecialUnitary(3)
    x, y = (space.random(9, 3, 3, dtype=COMPLEX, generator=generator(k)) for k in range(2))
    near(torch.func.vmap(space.log)(x, y), space.log(x, y), slack=10)
    at = space.origin_like(x[0])
    # The centre is at 2 pi sqrt(2 / 3).
    assert space.dist(at, at * torch.exp(torch.tensor(2j * math.pi / 3))) > 5

    def value(a, b):
        p, q = (space.exp(x[0], space.from_frame(x[0], c)) for c in (a, b))
        return space.coordinates(p, space.log(p, q))

    a, b = 1.5 * torch.randn(2, 8, dtype=DOUBLE, generator=generator(2))
    reverse = torch.autograd.functional.jacobian(lambda a: value(a, b), a)
    near(reverse, torch.func.jacfwd(value)(a, b), slack=100)
    inputs = a.clone().requires_grad_(), b.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE], ids=str)
@pytest.mark.parametrize("size", [1e-17, 1e-6, 1e-3, 1e6, 1e30])
def test_positive_matrices_of_any_size(size, dtype):
    """Covariances in small units: both metrics do not depend on the unit, and distances to multiples are logarithms."""
    x, y = (AFFINE.random(6, 3, 3, dtype=dtype, generator=generator(k)) for k in range(2))
    u = 0.3 * AFFINE.random_tangent(x, generator(2))
    slack = 1e2 if dtype == DOUBLE else 3e1
    for space in (AFFINE, FLAT):
        near(space.dist(size * x, size * y), space.dist(x, y), dtype, slack)
        near(space.log(size * x, size * y) / size, space.log(x, y), dtype, slack)
        near(space.exp(size * x, size * u) / size, space.exp(x, u), dtype, slack)
        near(space.transport(size * x, size * y, size * u) / size, space.transport(x, y, u), dtype, slack)
        near(space.coordinates(size * x, size * u), space.coordinates(x, u), dtype, slack)
        near(space.dist(x, size * x), torch.full((6,), 3**0.5 * abs(math.log(size)), dtype=dtype), dtype)
    near(AFFINE.transport(x, size * x, u) / size, u, dtype, slack)


def test_derivatives_at_other_sizes():
    x, y = (AFFINE.random(3, 3, dtype=DOUBLE, generator=generator(k)).requires_grad_() for k in range(2))
    for space in (AFFINE, FLAT):

        def value(a, b, space=space):
            a, b = a + a.mT, 1e-6 * (b + b.mT)
            return space.squared_dist(a, b), space.log(b, a) * 1e6

        assert torch.autograd.gradcheck(value, (x, y), fast_mode=True)
        assert torch.autograd.gradgradcheck(value, (x, y), fast_mode=True, atol=1e-4)


@pytest.mark.parametrize(("dtype", "spread"), [(SINGLE, 20.0), (DOUBLE, 36.0)])
def test_volume_densities_of_long_vectors(dtype, spread):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=generator()))[0]
    values = torch.tensor([0.5, -0.5, 0.1], dtype=DOUBLE) * spread
    half = 0.5 * torch.pdist(values.unsqueeze(-1))
    u = (turn * values) @ turn.T
    found = AFFINE.log_volume_density(torch.eye(3, dtype=dtype), (0.5 * (u + u.T)).to(dtype))
    near(found.double(), (half.sinh() / half).log().sum(), dtype, slack=100)


def test_default_dtypes_do_not_leak():
    for given, default in ((SINGLE, DOUBLE), (DOUBLE, SINGLE)):
        torch.set_default_dtype(default)
        try:
            for space, n, kind in (
                (SpecialUnitary(2), 2, given.to_complex()),
                (FLAT, 3, given),
                (AFFINE, 3, given),
            ):
                x, y = (space.random(4, n, n, dtype=kind, generator=generator(k)) for k in range(2))
                for log in (space.log, torch.func.vmap(space.log)):
                    assert log(x, y).dtype == kind
        finally:
            torch.set_default_dtype(SINGLE)


@pytest.mark.parametrize("scale", [0.5, 2.4, 2.6, 12.0, 1e3])
def test_wide_normals_on_the_circle_have_mass_1(scale):
    circle, zero = Torus(1), torch.zeros(1, dtype=DOUBLE)
    y = (torch.arange(2000, dtype=DOUBLE) + 0.5).unsqueeze(-1) * 2 * math.pi / 2000
    mass = WrappedNormal(circle, zero, scale).log_prob(y).exp().mean() * 2 * math.pi
    assert mass.item() == pytest.approx(1, abs=1e-12)
    inputs = y[::500].clone().requires_grad_(), torch.tensor([scale], dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, s: circle.log_wrapped_normal(zero, y, s), inputs)


def test_angles_have_the_derivative_1():
    x = torch.tensor([-1e-20, 1.0, 7.0], dtype=DOUBLE, requires_grad=True)
    projected = Torus(3).project(x)
    assert ((projected >= 0) & (projected < 2 * math.pi)).all()
    assert torch.autograd.grad(projected.sum(), x)[0].tolist() == [1, 1, 1]


def test_wrong_shapes_and_matrices_that_hide():
    eye = torch.eye(3)
    for space, x in ((SpecialOrthogonal(), eye), (SpecialUnitary(3), eye + 0j), (AFFINE, eye), (FLAT, eye)):
        for width in (1, 20):
            with pytest.raises(ValueError, match="coordinates must have shape"):
                space.from_frame(x, torch.ones(2, width))
    for shape in ((4, 2, 3), (3,), ()):
        with pytest.raises(ValueError, match="square"):
            AFFINE.random(*shape)
    AFFINE.check(AFFINE.project(torch.zeros(2, 2)))
    # Beside a large matrix, a small one is still asymmetric.
    both = torch.stack([1e7 * torch.eye(2), torch.tensor([[1.0, 1e-3], [0.0, 1.0]])])
    with pytest.raises(ValueError, match=r"relative asymmetry of 0\.001"):
        AFFINE.check(both)
