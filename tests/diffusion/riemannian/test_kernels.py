"""Heat kernels against multiprecision, a second expansion, moments, and their own laws."""

import itertools
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

from loupe.diffusion.riemannian import HeatKernel, tables, unitary
from loupe.diffusion.riemannian.multiprecision import computed_remainder, exact_log_density
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere, Torus

SPACES = {
    "torus": (Torus(2), 2),
    "sphere": (Sphere(2), 2),
    "three-sphere": (Sphere(3), 3),
    "sphere 15": (Sphere(15), 15),
    "rotations": (SpecialOrthogonal(3), 3),
    "unitary": (SpecialUnitary(3), 8),
}
every_space = pytest.mark.parametrize(("manifold", "dimension"), SPACES.values(), ids=SPACES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(manifold, sigma, n=100, seed=0, dtype=torch.float64):
    """Points, noisy ones, and sigma."""
    x0 = manifold.random(n, *manifold.event_shape, generator=generator(seed), dtype=dtype)
    sigma = torch.full((n,), float(sigma), dtype=torch.float64)
    return HeatKernel(manifold).sample(x0, sigma, generator(seed + 1)), x0, sigma


def reference(dimension, theta, sigma):
    """The log density on a sphere and its derivative in the angle."""
    with mpmath.workdps(60 + 7 * dimension // 5):
        h = mpmath.mpf(10) ** -20
        low, middle, high = (exact_log_density(dimension, mpmath.mpf(theta) + e, sigma) for e in (-h, 0, h))
        return float(middle), float((high - low) / (2 * h))


@pytest.mark.parametrize(
    ("dimension", "sigmas", "log_error", "score_error"),
    [
        (2, (0.02, 0.2, 0.38, 0.39, 1.0, 3.0), 1e-9, 1e-8),
        (3, (0.02, 0.2, 0.38, 0.4, 1.0, 3.0), 1e-9, 1e-8),
        (15, (0.03, 0.15, 0.31, 0.33, 0.8), 1e-6, 1e-5),
        (127, (0.02, 0.1, 0.16, 0.17, 0.4), 1e-4, 1e-4),
        (511, (0.06, 0.105, 0.106), 1e-3, 1e-3),
    ],
)
def test_spheres_match_multiprecision(dimension, sigmas, log_error, score_error):
    kernel = HeatKernel(Sphere(dimension))
    for sigma in sigmas:
        typical = (dimension - 1) / dimension * math.acos(math.exp(-dimension * sigma**2 / 2))
        for theta in (typical - 2 * sigma, typical, typical + 2.5 * sigma / max(1, sigma * dimension**0.5)):
            if not 0 < theta < math.pi:
                continue
            log, slope = reference(dimension, theta, sigma)
            angle = torch.tensor(theta, dtype=torch.float64)
            assert abs(kernel.radial_log_density(angle, sigma).item() - log) < log_error
            assert abs(kernel.radial_score(angle, sigma).item() - slope) < score_error * abs(slope) + 1e-12


def test_shipped_tables_are_what_multiprecision_gives():
    for dimension in (2,):
        np.testing.assert_allclose(
            tables.remainder(dimension), computed_remainder(dimension), rtol=1e-9, atol=1e-9
        )


def rotation_reference(theta, sigma):
    with mpmath.workdps(40):
        half, sigma = mpmath.mpf(1) / 2, mpmath.mpf(sigma)

        def log(angle):
            waves = (mpmath.sin((k + half) * angle) / mpmath.sin(angle / 2) for k in range(60))
            decay = ((2 * k + 1) * mpmath.exp(-k * (k + 1) * sigma**2 / 2) for k in range(60))
            return mpmath.log(sum(map(mpmath.fmul, waves, decay)) / (8 * mpmath.pi**2))

        return float(log(mpmath.mpf(theta))), float(mpmath.diff(log, theta, h=mpmath.mpf(10) ** -12))


def test_rotations_match_multiprecision():
    kernel = HeatKernel(SpecialOrthogonal(3))
    for sigma in (0.3, 0.79, 0.8, 2.0):
        for theta in (1e-9, 5e-3, 0.02, 1.5, math.pi):
            log, slope = rotation_reference(theta, sigma)
            angle = torch.tensor(theta, dtype=torch.float64)
            assert abs(kernel.radial_log_density(angle, sigma).item() - log) < 1e-10
            assert abs(kernel.radial_score(angle, sigma).item() - slope) < 1e-8 * abs(slope) + 1e-10


def unitary_reference(one, two, sigma):
    """The log density on SU(3): the sum over all geodesics in multiprecision, slightly beside coincident angles."""
    with mpmath.workdps(60):
        tiny = mpmath.mpf(10) ** -18
        one, two, variance = one + tiny, two + 2 * tiny, mpmath.mpf(sigma) ** 2
        total = mpmath.mpf(0)
        for k, m in itertools.product(range(-4, 5), repeat=2):
            a, b = one + 2 * mpmath.pi * k, two + 2 * mpmath.pi * m
            angles = (a, b, -a - b)
            weight = mpmath.exp(-sum(angle**2 for angle in angles) / (2 * variance))
            for x, y in itertools.combinations(angles, 2):
                weight *= (x - y) / 2 / mpmath.sin((x - y) / 2)
            total += weight
        front = 16 * mpmath.sqrt(3) * mpmath.pi**5 * mpmath.exp(variance) / (2 * mpmath.pi * variance) ** 4
        return float(mpmath.log(front * total))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6, 0.79, 0.81, 1.9, 3.0])
def test_su3_matches_multiprecision(sigma):
    x0 = SpecialUnitary(3).random(3, 3, generator=generator(), dtype=torch.float64)
    for one, two in ((1.0, -0.3), (0.7, 0.7), (0.7, 0.7 + 1e-6), (2.5, 0.1), (math.pi, -math.pi)):
        one, two = (angle * min(1, 4 * sigma) for angle in (one, two))
        angles = torch.tensor([one, two, -one - two], dtype=torch.float64)
        x = x0 @ torch.diag(torch.polar(torch.ones_like(angles), angles))
        found = HeatKernel(SpecialUnitary(3)).log_density(x, x0, sigma).item()
        assert found == pytest.approx(unitary_reference(one, two, sigma), abs=1e-8)


def test_sun_diffusion_agrees():
    """An independent package; su_peer.py made the file. SU(2) is the sphere S^3 with lengths times sqrt(2)."""
    for n, sigma in itertools.product((2, 3), (0.1, 0.3, 0.7, 1.5)):
        rows = np.loadtxt(Path(__file__).with_name("su_peer.txt"))
        rows = torch.from_numpy(rows[(rows[:, 0] == n) & (rows[:, 1] == sigma), 2:])
        one, two, wanted, slope = rows.unbind(1)
        if n == 2:
            kernel = HeatKernel(Sphere(3))
            found = kernel.radial_log_density(one.abs(), sigma / 2**0.5)
            score = kernel.radial_score(one.abs(), sigma / 2**0.5) * one.sign() / 2
        else:
            kernel, angles = HeatKernel(SpecialUnitary(3)), torch.stack([one, two, -one - two], -1)
            x = torch.diag_embed(torch.polar(torch.ones_like(angles), angles))
            found = kernel.log_density(x, torch.eye(3).to(x), sigma)
            score = (x.mH @ kernel.score(x, torch.eye(3).to(x), sigma))[:, 0, 0].imag
        front = found - wanted
        torch.testing.assert_close(front, front.mean().expand_as(front), rtol=0, atol=1e-8)
        torch.testing.assert_close(score, slope, rtol=1e-8, atol=1e-8)


def test_geodesics_and_characters_agree_on_su3():
    """Also where eigenangles coincide, differ by a full turn, or are those of the center."""
    third = 2 * math.pi / 3
    special = [
        [2, 2, -4],
        [third, third, -2 * third],
        [math.pi, -math.pi, 0],
        [math.pi - 1e-7, -math.pi + 1e-7, 0],
    ]
    angles = torch.tensor([*special, [1, -0.3, -0.7], [2.5, 0.1, -2.6]], dtype=torch.float64)
    trace = torch.view_as_real(torch.polar(torch.ones_like(angles), angles).sum(-1))
    for sigma, tolerance in ((0.8, 1e-10), (0.7, 1e-7)):
        sigmas = torch.full((len(angles),), sigma, dtype=torch.float64)
        log, slopes = unitary.by_geodesics(angles, sigmas)
        torch.testing.assert_close(log, unitary.by_characters(trace, sigmas, 30), rtol=0, atol=tolerance)
        assert slopes[:3].diff(dim=-1)[0, 0].abs() < 1e-9  # equal angles have equal derivatives
        assert slopes[1].abs().max() < 1e-9  # the center is a critical point


@every_space
@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.75, 0.85, 1.5])
def test_scores_are_tangent_gradients(manifold, dimension, sigma):
    x, x0, sigmas = pairs(manifold, sigma)
    kernel, u, h = HeatKernel(manifold), manifold.random_tangent(x, generator(2)), 1e-5 * min(sigma, 1)
    low, high = (kernel.log_density(manifold.exp(x, e * u), x0, sigmas) for e in (-h, h))
    score = kernel.score(x, x0, sigmas)
    torch.testing.assert_close(manifold.inner(x, score, u), (high - low) / (2 * h), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(manifold.to_tangent(x, score), score, rtol=1e-9, atol=1e-9)


MOMENTS = {
    "torus": (Torus(1), lambda x: x.cos()[:, 0], lambda s: math.exp(-(s**2) / 2)),
    "sphere": (Sphere(2), lambda x: x[:, 0], lambda s: math.exp(-(s**2))),
    "sphere 127": (Sphere(127), lambda x: x[:, 0], lambda s: math.exp(-127 * s**2 / 2)),
    "rotations": (
        SpecialOrthogonal(3),
        lambda x: x.diagonal(dim1=-2, dim2=-1).sum(-1) / 3,
        lambda s: math.exp(-(s**2)),
    ),
    "unitary": (
        SpecialUnitary(3),
        lambda x: x.diagonal(dim1=-2, dim2=-1).sum(-1).real / 3,
        lambda s: math.exp(-4 * s**2 / 3),
    ),
}


@pytest.mark.parametrize(("manifold", "moment", "exact"), MOMENTS.values(), ids=MOMENTS)
def test_samples_have_the_exact_moments(manifold, moment, exact):
    """The mean of the first eigenfunction; half or twice the variance would be seen at once."""
    origin = manifold.origin_like(manifold.random(*manifold.event_shape, dtype=torch.float64))
    origin = torch.zeros_like(origin) if isinstance(manifold, Torus) else origin
    for k, sigma in enumerate((0.05, 0.1, 0.3, 0.5, 0.79, 1.0, 1.19, 1.3)):
        many = origin.expand(2_500, *manifold.event_shape)
        values = moment(HeatKernel(manifold).sample(many, sigma, generator(k)))
        assert abs(values.mean().item() - exact(sigma)) < 4 * values.std().item() / 50


@pytest.mark.parametrize("manifold", [Sphere(2), Sphere(3), SpecialOrthogonal(3)])
def test_kernels_are_normalised_and_form_a_semigroup(manifold):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    theta = torch.from_numpy(math.pi / 2 * (nodes + 1))
    dimension = manifold.dimension_like(torch.empty(manifold.event_shape))
    if isinstance(manifold, SpecialOrthogonal):
        area = 8 * math.pi * (1 - theta.cos())
    else:
        area = 2 * math.pi ** (dimension / 2) / math.gamma(dimension / 2) * theta.sin() ** (dimension - 1)
    measure = area * torch.from_numpy(math.pi / 2 * weights)
    kernel = HeatKernel(manifold)
    densities = {s: kernel.radial_log_density(theta, s).exp() for s in (0.2, 0.3, 0.6, 0.8, 1.1)}
    for density in densities.values():
        assert (density * measure).sum().item() == pytest.approx(1, abs=1e-9)
    for one, other in ((0.2, 0.3), (0.3, 0.6), (0.6, 0.8), (0.8, 1.1)):
        found = (densities[one] * densities[other] * measure).sum().log().item()
        at_zero = kernel.radial_log_density(torch.zeros(1, dtype=torch.float64), math.hypot(one, other))
        assert found == pytest.approx(at_zero.item(), abs=1e-8)


@every_space
def test_limits(manifold, dimension):
    kernel = HeatKernel(manifold)
    x, x0, small = pairs(manifold, 0.01)
    near, wanted = kernel.score(x, x0, small), manifold.log(x, x0) / 0.01**2
    assert (manifold.norm(x, near - wanted) / manifold.norm(x, wanted)).max() < 1e-2
    gaussian = HeatKernel(manifold, "varadhan")
    torch.testing.assert_close(gaussian.score(x, x0, small), wanted)
    logs = [each.log_density(x, x0, small) for each in (gaussian, kernel)]
    torch.testing.assert_close(*logs, rtol=0, atol=1e-2)
    if not isinstance(manifold, Torus | SpecialUnitary):
        theta = manifold.dist(x, x0)
        torch.testing.assert_close(gaussian.radial_log_density(theta, small), logs[0])
        torch.testing.assert_close(gaussian.radial_score(theta, small), -theta / 0.01**2)
    x, x0, large = pairs(manifold, 9.0)
    uniform = 0.0 if isinstance(manifold, SpecialUnitary) else -manifold.log_volume_like(x)
    torch.testing.assert_close(kernel.log_density(x, x0, large), torch.full_like(large, uniform))
    for sigma in (1e-3, 0.3, 0.9):
        assert kernel.score(x0, x0, sigma).abs().max() < 1e-9
        assert kernel.log_density(x, x0, sigma).isfinite().all()
        assert kernel.score(x, x0, sigma).isfinite().all()


def test_antipodes_have_no_score():
    x0 = torch.eye(3, dtype=torch.float64)
    for sigma in (0.1, 0.5, 2.0):
        assert HeatKernel(Sphere()).score(-x0, x0, sigma).abs().max() < 1e-9


@every_space
def test_kernels_are_symmetric_and_take_float32_and_broadcast(manifold, dimension):
    kernel = HeatKernel(manifold)
    x, x0, sigma = pairs(manifold, 0.4)
    log = kernel.log_density(x, x0, sigma)
    torch.testing.assert_close(kernel.log_density(x0, x, sigma), log, rtol=1e-9, atol=1e-9)
    single = [a.to(torch.complex64 if manifold.complex else torch.float32) for a in (x, x0)]
    found = kernel.log_density(*single, 0.4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), log, rtol=1e-3, atol=1e-3)
    ones = kernel.log_density(x[:4, None], x0[None, :5], 0.4)
    assert ones.shape == (4, 5)
    torch.testing.assert_close(ones[2, 2], log[2], rtol=1e-9, atol=1e-9)


def test_the_approximations_fail_where_the_kernel_does_not():
    """The control of accuracy: each of them is off by more than a tenth at some sigma."""
    for manifold in (Sphere(2), SpecialOrthogonal(3), SpecialUnitary(3)):
        for method, sigma in (("series", 0.1), ("varadhan", 1.5)):
            x, x0, sigmas = pairs(manifold, sigma)
            exact, rough = (HeatKernel(manifold, m).score(x, x0, sigmas) for m in ("combined", method))
            error = manifold.norm(x, exact - rough) / manifold.norm(x, exact)
            assert error.mean() > 0.1, (manifold, method)
            assert error.median() < 20 or method == "series" or manifold.complex


def test_a_long_series_is_the_kernel():
    for manifold, terms in (
        (Torus(2), 30),
        (Sphere(2), 60),
        (SpecialOrthogonal(3), 60),
        (SpecialUnitary(3), 30),
    ):
        x, x0, sigma = pairs(manifold, 0.7)
        exact, long = HeatKernel(manifold), HeatKernel(manifold, "series", terms)
        torch.testing.assert_close(
            long.log_density(x, x0, sigma), exact.log_density(x, x0, sigma), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(long.score(x, x0, sigma), exact.score(x, x0, sigma), rtol=1e-5, atol=1e-5)


@every_space
def test_derivatives_are_right_or_raise(manifold, dimension):
    kernel = HeatKernel(manifold)
    x, x0, sigma = pairs(manifold, 0.5, n=5)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel.log_density(x, x0, sigma).sum(), x, retain_graph=True)
    if not manifold.complex:
        torch.testing.assert_close(
            manifold.to_tangent(x, gradient) / getattr(manifold, "factor", 1), kernel.score(x, x0, sigma)
        )
        exact = manifold.divergence(lambda at: kernel.score(at, x0, sigma), x.detach())
        u, h = manifold.frame(x.detach()), 1e-5
        steps = [kernel.score(manifold.exp(x.detach()[:, None], e * u), x0[:, None], 0.5) for e in (-h, h)]
        slope = manifold.beside().inner(x.detach()[:, None], u, (steps[1] - steps[0]) / (2 * h)).sum(-1)
        torch.testing.assert_close(exact, slope, rtol=1e-4, atol=1e-4)
        return
    torch.testing.assert_close(manifold.to_tangent(x, gradient), kernel.score(x, x0, sigma))
    with pytest.raises(RuntimeError, match="first derivative only"):
        torch.autograd.grad(kernel.log_density(x, x0, sigma).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no derivative"):
        kernel.score(x, x0, sigma).abs().sum().backward()


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_bad_input_is_named():
    kernel, x = HeatKernel(Sphere(2)), torch.eye(3)
    with pytest.raises(ValueError, match=r"no heat kernel is known on SpecialUnitary\(2\)"):
        HeatKernel(SpecialUnitary(2))
    with pytest.raises(ValueError, match="method must be one of combined, series, varadhan, got 'exact'"):
        HeatKernel(Sphere(), "exact")
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        kernel.score(x, x, 0.0)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got nan"):
        kernel.sample(x, math.nan)
    with pytest.raises(ValueError, match=r"sigma .* must have shape \(3,\), got \(2,\)"):
        kernel.log_density(x, x, torch.ones(2))
    with pytest.raises(ValueError, match="unit sphere"):
        kernel.score(2 * x, x, 1.0)
    with pytest.raises(ValueError, match=r"shape \(..., 3\)"):
        kernel.score(torch.eye(4), torch.eye(4), 1.0)
    for dtype, remedy in ((torch.float16, "float"), (torch.complex32, "cfloat")):
        with pytest.raises(TypeError, match=rf"got {dtype}: convert the points with \.{remedy}\(\)"):
            kernel.score(torch.empty(3, 3, dtype=dtype), x, 1.0)
    with pytest.raises(ValueError, match=r"a circle is Torus\(1\)"):
        HeatKernel(Sphere()).score(torch.eye(2), torch.eye(2), 1.0)
    with pytest.raises(ValueError, match="no function of one angle"):
        HeatKernel(Torus(1)).radial_score(torch.ones(1), 1.0)
    with pytest.raises(ValueError, match="up to dimension 511, got 512"):
        HeatKernel(Sphere()).sample(torch.eye(513), 1.0)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got inf"):
        kernel.score(x, x, math.inf)
    with pytest.raises(TypeError, match="sigma must be a number, or one per sample, got None"):
        kernel.score(x, x, None)
    with pytest.raises(ValueError, match="must be tensors, got list"):
        kernel.sample([[1.0, 0.0, 0.0]], 1.0)
    with pytest.raises(ValueError, match=r"shapes that broadcast, got \(3, 3\) and \(2, 3\)"):
        kernel.score(x, x[:2], 1.0)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got -1"):
        kernel.radial_score(0.5, -1.0)


@every_space
def test_batches_may_be_empty_or_have_many_axes_and_mixed_dtypes(manifold, dimension):
    kernel, x, none = HeatKernel(manifold), manifold.random(2, 5, *manifold.event_shape), torch.ones(0)
    sigma = torch.linspace(0.1, 2, 10).reshape(2, 5)
    noisy = kernel.sample(x, sigma, generator())
    assert torch.equal(noisy, kernel.sample(x, sigma, generator()))
    assert torch.equal(manifold.project(noisy), noisy) or not isinstance(manifold, Torus)
    assert noisy.shape == kernel.score(noisy, x, sigma).shape == x.shape
    double = x.to(torch.complex128 if manifold.complex else torch.float64)
    log = kernel.log_density(noisy, double, sigma)
    torch.testing.assert_close(log[1, 2], kernel.log_density(noisy[1, 2], x[1, 2], sigma[1, 2].item()))
    empty = x[0, :0]
    assert kernel.score(kernel.sample(empty, none), empty, none).shape == empty.shape


@every_space
def test_derivatives_in_sigma_are_right_or_raise(manifold, dimension):
    kernel = HeatKernel(manifold)
    for value in (0.3, 0.9):
        x, x0, sigma = pairs(manifold, value, n=5)
        sigma.requires_grad_()
        log, h = kernel.log_density(x, x0, sigma).sum(), 1e-5
        if manifold.complex:
            with pytest.raises(RuntimeError, match="no derivative"):
                log.backward()
            continue
        (slope,) = torch.autograd.grad(log, sigma)
        low, high = (kernel.log_density(x, x0, value + e) for e in (-h, h))
        torch.testing.assert_close(slope, (high - low) / (2 * h), rtol=1e-6, atol=1e-6)


def test_transforms_of_functions():
    sphere, rotations, unitary = (HeatKernel(m) for m in (Sphere(2), SpecialOrthogonal(3), SpecialUnitary(3)))
    for kernel in (sphere, rotations):
        x, x0, _ = pairs(kernel.manifold, 0.5, n=4)
        for sigma in (0.2, 1.0):

            def log(at, center, sigma=sigma, kernel=kernel):
                return kernel.log_density(at, center, sigma)

            torch.testing.assert_close(torch.func.vmap(log)(x, x0), log(x, x0))
            found = torch.func.vmap(torch.func.jacrev(log))(x, x0)
            found = kernel.manifold.to_tangent(x, found) / getattr(kernel.manifold, "factor", 1)
            torch.testing.assert_close(found, kernel.score(x, x0, sigma))
            # Also where both points coincide: every direction has the same curvature.
            hessian = torch.func.jacrev(lambda at: kernel.score(at, x0[0], sigma))(x0[0])  # noqa: B023
            frame = kernel.manifold.frame(x0[0]).flatten(1)
            curvature = frame @ hessian.reshape(frame.shape[1], -1) @ frame.mT
            torch.testing.assert_close(curvature, curvature[0, 0] * torch.eye(len(frame)).double())
            assert curvature[0, 0] < 0
    x, x0, sigma = pairs(SpecialUnitary(3), 0.5, n=4)
    with pytest.raises(RuntimeError, match=r"neither under torch.func.vmap"):
        torch.func.vmap(unitary.log_density)(x, x0, sigma)
