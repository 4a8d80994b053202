"""Manifolds against geoopt, scipy and closed forms: values, volumes, uniform points, and means by Karcher flow."""

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation
from test_laws import DOUBLE, case, generator, near

from loupe.geometry import SPD, SpecialOrthogonal, SpecialUnitary, karcher_flow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it compiles with torch.jit.script
    import geoopt

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

PEERS = {
    "sphere": geoopt.Sphere(),
    "hyperboloid": geoopt.Lorentz(k=1 / 0.7),
    "ball": geoopt.PoincareBall(c=0.7),
    "affine-invariant": geoopt.SymmetricPositiveDefinite(),
    "plane": geoopt.Euclidean(ndim=1),
}


@pytest.mark.parametrize("name", PEERS)
def test_verbs_of_geoopt(name):
    space, letters = case(name)
    x, y, u, v = (letters[k] for k in "xyuv")
    peer = PEERS[name].to(DOUBLE)
    near(space.exp(x, u), peer.expmap(x, u), slack=1e5)  # with what geoopt clamps
    near(space.log(x, y), peer.logmap(x, y), slack=1e5)
    near(space.dist(x, y).flatten(), peer.dist(x, y).flatten(), slack=1e5)
    if name != "ball":  # which broadcasts its factor
        near(space.inner(x, u, v).flatten(), peer.inner(x, u, v).flatten(), slack=1e4)
    if name not in ("affine-invariant", "sphere"):  # there its vectors are not carried in parallel
        near(space.transport(x, y, u), peer.transp(x, y, u), slack=1e5)
    if name == "affine-invariant":
        with pytest.warns(UserWarning, match="not fully implemented"):
            flat = geoopt.SymmetricPositiveDefinite("LEM")
        near(SPD("log_euclidean").dist(x, y), flat.dist(x, y))


def test_rotations_of_scipy():
    """Also near half turns and the identity."""
    space, draw = SpecialOrthogonal(3), np.random.default_rng(0)
    axes = draw.standard_normal((60, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate(
        [draw.uniform(0, math.pi, 40), 10.0 ** -np.arange(1, 11), math.pi - 10.0 ** -np.arange(1, 11)]
    )
    turns = angles[:, None] * axes
    x = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix())
    eye = space.origin_like(x)
    near(space.coordinates(eye, space.log(eye, x)), torch.from_numpy(turns), slack=100)
    near(space.exp(eye, space.from_frame(eye, torch.from_numpy(turns))), x)
    near(space.dist(eye, x), torch.from_numpy(angles), slack=100)


@pytest.mark.parametrize("n", [2, 3])
def test_unitary_logarithms_are_the_shortest(n):
    space = SpecialUnitary(n)
    x, y = (space.random(40, n, n, generator=generator(k), dtype=torch.complex128) for k in range(2))
    logs = x.mH @ space.log(x, y)
    exps = torch.from_numpy(np.stack([scipy.linalg.expm(a) for a in logs.numpy()]))
    near(exps, x.mH @ y)
    angles = torch.linalg.eigvalsh(-1j * logs)
    assert (angles.amax(-1) - angles.amin(-1) <= 2 * math.pi).all()
    assert n == 2 or (angles.abs() > math.pi).any()  # not all of them are principal
    near(angles.sum(-1), torch.zeros(40, dtype=DOUBLE))
    # S^3 with radius sqrt(2): half of the trace is the cosine.
    if n == 2:
        cosine = 0.5 * (x.mH @ y).diagonal(dim1=-2, dim2=-1).sum(-1).real
        near(space.dist(x, y), 2**0.5 * cosine.acos(), slack=1e3)


def test_volumes_and_uniform_points():
    wanted = {"circle": 2 * math.pi, "sphere": 2 * math.pi**2, "torus": (2 * math.pi) ** 3, "SO3": 8 * math.pi**2,
              "SU2": 4 * 2**0.5 * math.pi**2, "SU3": 16 * 3**0.5 * math.pi**5}  # fmt: skip
    for name, volume in wanted.items():
        space, letters = case(name)
        assert space.log_volume_like(letters["x"]) == pytest.approx(math.log(volume), rel=1e-14)
    # Haar's distribution by its characters, and its invariance: QR alone gives another.
    traces = {
        n: space.random(20_000, n, n, generator=generator(5), dtype=dtype).diagonal(dim1=-2, dim2=-1).sum(-1)
        for n, space, dtype in ((3, SpecialOrthogonal(3), DOUBLE), (2, SpecialUnitary(2), torch.complex128))
    }
    traces[0] = (
        SpecialUnitary(3).random(20_000, 3, 3, generator=generator(6)).diagonal(dim1=-2, dim2=-1).sum(-1)
    )
    for trace in traces.values():
        assert trace.abs().square().mean().item() == pytest.approx(1, abs=0.05)
        assert abs(trace.mean().item()) < 0.03
    assert (traces[2].real / 2).pow(4).mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert traces[0].pow(3).mean().real.item() == pytest.approx(1, abs=0.1)


def test_congruences_keep_the_affine_invariant_metric():
    space, letters = case("affine-invariant")
    x, y, u, v = (letters[k] for k in "xyuv")
    g = torch.randn(3, 3, generator=generator(1), dtype=DOUBLE)
    turned = [g @ a @ g.T for a in (x, y, u, v)]
    near(space.exp(turned[0], turned[2]), g @ space.exp(x, u) @ g.T, slack=10)
    near(space.dist(*turned[:2]), space.dist(x, y), slack=10)
    spectra = [scipy.linalg.eigh(b.numpy(), a.numpy(), eigvals_only=True) for a, b in zip(x, y, strict=True)]
    near(space.dist(x, y), torch.from_numpy(np.linalg.norm(np.log(np.stack(spectra)), axis=-1)))
    diagonal = torch.diag(torch.tensor([1.0, 4.0], dtype=DOUBLE))
    near(space.exp(diagonal, diagonal), math.e * diagonal)
    assert space.norm(diagonal, diagonal).item() == pytest.approx(2**0.5)


def test_logarithms_of_ill_conditioned_matrices():
    space = SPD("log_euclidean")
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator(), dtype=DOUBLE))[0]
    logs = torch.tensor([-9.0, -3.0, 0.0, 4.0, 9.0], dtype=DOUBLE)
    x = (turn * logs.exp()) @ turn.T
    x, eye = 0.5 * (x + x.T), torch.eye(5, dtype=DOUBLE)
    wanted = (turn * logs) @ turn.T
    near(space.log(eye, x), wanted, slack=1e4)  # the condition number times the resolution
    near(torch.func.jvp(lambda y: space.log(eye, y), (x,), (x,))[0], wanted, slack=1e5)


@pytest.mark.parametrize("name", ["torus", "SO3", "SU3", "affine-invariant", "log-Euclidean", "product"])
def test_karcher_flow_ends_where_logarithms_cancel(name):
    space, letters = case(name)
    x = letters["x"][:1]
    points = space.exp(x, 0.3 * space.random_tangent(x.expand(7, *x.shape[1:]), generator(1)))
    weights = torch.rand(7, generator=generator(2), dtype=DOUBLE)
    mean = karcher_flow(points, weights, space, iterations=30)
    pulls = weights[(..., *[None] * space.ndim)] * space.log(mean, points)
    near(pulls.sum(0), torch.zeros_like(pulls[0]))
