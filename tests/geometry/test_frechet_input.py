"""What the Fréchet mean refuses, in one sentence, and what it warns of."""

import math

import pytest
import torch
from means import DOUBLE, curvatures, generator, near, normal, problem

from loupe.geometry import (
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Sphere,
    Torus,
    frechet_mean,
    frechet_variance,
    graph_frechet_mean,
)

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
        (torch.tensor([[0, 1, 2]]), r"integers of shape \(2, E\), got shape \(1, 3\)"),
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
