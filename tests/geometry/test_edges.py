"""Numbers on the edge: the boundary, nan, points off the manifold, and curvatures that move."""

import pytest
import torch
from torch.nn.functional import normalize

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    ball_step,
    einstein_midpoint,
    frechet_mean,
    gyration,
    hyperboloid_step,
    karcher_flow,
    mobius_add,
    tangent_mean,
    to_ball,
    to_hyperboloid,
)

DTYPES = (torch.float32, torch.float64)
GOOD = {PoincareBall: [0.1, 0.2], Hyperboloid: [1.0, 0.0], Sphere: [1.0, 0.0], Euclidean: [1.0, 0.0]}
OUTSIDE = [
    (PoincareBall, [1.5, 0.0]),
    (PoincareBall, [0.0, 1.01]),
    (PoincareBall, [torch.inf, 0.0]),
    (Hyperboloid, [2.0, 0.0]),
    (Hyperboloid, [-1.0, 0.0]),
    (Hyperboloid, [0.0, 0.0]),
    (Sphere, [2.0, 0.0]),
    (Sphere, [0.0, 0.0]),
    (Sphere, [torch.inf, 0.0]),
]
VERBS = {
    "dist": "xx",
    "squared_dist": "xx",
    "log": "xx",
    "exp": "xu",
    "inner": "xuu",
    "norm": "xu",
    "transport": "xxu",
    "to_tangent": "xu",
    "exp0": "u",
    "log0": "x",
    "project": "x",
}
SAFE = ("exp0", "project")


def arguments(letters, x):
    return [{"x": x, "u": x.new_tensor([0.0, 0.1])}[letter] for letter in letters]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [-1.0, -0.37, -4.0])
def test_the_boundary_is_infinitely_far(dtype, K):
    ball, x = PoincareBall(K), torch.randn(1000, 10, generator=torch.Generator().manual_seed(0), dtype=dtype)
    edge = normalize(x, dim=-1) / (-K) ** 0.5
    over = -K * edge.square().sum(-1) >= 1
    assert over.sum() > 100
    for distance in (
        ball.dist(edge, torch.zeros_like(edge)),
        ball.dist(edge, 0.3 * edge),
        ball.norm(edge, edge),
    ):
        assert (distance[over] == torch.inf).all()
        assert (distance[~over] > 14 / (-K) ** 0.5).all()
    assert (ball.dist(edge[:-1], edge[1:])[over[1:]] == torch.inf).all()
    assert ball.log0(edge)[over].isinf().any(-1).all()
    assert not ball.log(torch.zeros_like(edge), edge)[over].isfinite().any()
    with pytest.raises(ValueError, match="inside the ball"):
        ball.dist(edge * (1 + 1e-3), torch.zeros_like(edge))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "space", [*GOOD, lambda: PoincareBall(-0.5), lambda: Hyperboloid(torch.tensor(-1.0))]
)
def test_nan_in_is_nan_out(space, dtype):
    space = space()
    x = torch.tensor(GOOD[type(space)], dtype=dtype)
    for verb, letters in VERBS.items():
        for place in range(len(letters)):
            for coordinate in range(2):
                given = [a.clone() for a in arguments(letters, x)]
                given[place][coordinate] = torch.nan
                found = getattr(space, verb)(*given)
                assert found.isnan().any(), (verb, given)
                # Beside good ones in a batch, and only there.
                batch = [
                    torch.stack([good, bad]) for good, bad in zip(arguments(letters, x), given, strict=True)
                ]
                found = getattr(space, verb)(*batch)
                assert [row.isnan().any().item() for row in found] == [False, True], (verb, given)


@pytest.mark.parametrize(("kind", "point"), OUTSIDE)
def test_points_outside_are_refused_by_every_verb(kind, point):
    space, x, bad = kind(), torch.tensor(GOOD[kind]), torch.tensor(point)
    for verb, letters in VERBS.items():
        for place, letter in enumerate(letters):
            if letter == "u" or verb in SAFE:
                continue
            given = arguments(letters, x)
            given[place] = torch.stack([x, bad])
            with pytest.raises(ValueError, match="points must"):
                getattr(space, verb)(*given)
    with pytest.raises(ValueError, match="points must"):
        space.dist(bad, bad)


def test_points_outside_are_refused_by_functions():
    good, bad = torch.tensor([[0.1, 0.2], [0.3, 0.0]]), torch.tensor([[0.1, 0.2], [1.3, 0.0]])
    sheet, weights, ball = Hyperboloid().project(torch.rand(2, 3)), torch.ones(2), PoincareBall()
    for call in (
        lambda: mobius_add(bad, good),
        lambda: mobius_add(good, bad),
        lambda: gyration(bad, good, good),
        lambda: to_hyperboloid(bad),
        lambda: to_ball(-sheet),
        lambda: to_ball(sheet, 1.0),
        lambda: to_hyperboloid(good, 0.5),
        lambda: frechet_mean(bad),
        lambda: tangent_mean(bad),
        lambda: einstein_midpoint(bad),
        lambda: karcher_flow(bad),
        lambda: ball_step(bad, weights, good[0], ball),
        lambda: hyperboloid_step(1.5 * sheet, weights, sheet[0], Hyperboloid()),
    ):
        with pytest.raises(ValueError, match=r"points must|curvature must"):
            call()


@pytest.mark.parametrize("kind", GOOD)
def test_coordinates_do_not_broadcast(kind):
    space, x, one = kind(), torch.tensor(GOOD[kind]), torch.ones(4, 1)
    for verb, letters in VERBS.items():
        if len(letters) > 1:
            with pytest.raises(ValueError, match="same number of coordinates"):
                getattr(space, verb)(*arguments(letters[:-1], x), one)
    with pytest.raises(ValueError, match="floating-point"):
        space.dist(x.long(), x)


def test_what_overflows_is_no_point():
    ball = PoincareBall()
    for far in (ball.exp0(torch.tensor([1e30, 0.0])), ball.project(torch.tensor([1e30, 1.0]))):
        assert not far.isfinite().any()


@pytest.mark.parametrize("wrap", ["compile", "vmap"])
def test_where_values_are_not_looked_at_they_become_nan(wrap):
    for kind, bad in OUTSIDE:
        space, x = kind(), torch.tensor([GOOD[kind]] * 2)
        y = torch.tensor([bad, GOOD[kind]])
        if wrap == "compile":
            found = torch.compile(space.dist, backend="eager", fullgraph=True)(x, y)
        else:
            found = torch.func.vmap(space.dist)(x, y)
        assert found[0].isnan()
        assert found[1] == 0
    torch.compiler.reset()


@pytest.mark.parametrize("kind", [PoincareBall, Hyperboloid])
def test_the_curvature_is_read_when_it_is_needed(kind):
    K = torch.nn.Parameter(torch.tensor(-1.0))
    space = kind(K)
    x = torch.tensor([[0.8, 0.0], [0.0, 0.9]])
    if kind is Hyperboloid:
        x = to_hyperboloid(x)
    frechet_mean(x, manifold=space)
    K.data.fill_(-4.0)
    assert repr(space) == f"{kind.__name__}(curvature=-4)"
    for call in (lambda: frechet_mean(x, manifold=space), lambda: space.dist(*x), lambda: space.check(x)):
        with pytest.raises(ValueError, match="points must lie"):
            call()
    # A ball that has grown takes what it would not before.
    K.data.fill_(-0.25)
    space.check(space.project(torch.tensor([[1.5, 0.3]])) if kind is PoincareBall else space.project(x))
    for value in (0.5, 0.0, torch.nan, -torch.inf):
        K.data.fill_(value)
        for call in (lambda: frechet_mean(x, manifold=space), lambda: space.dist(*x), lambda: space.check(x)):
            with pytest.raises(ValueError, match="curvature must be negative"):
                call()
        assert "curvature=" in repr(space)
