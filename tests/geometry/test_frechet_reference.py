"""Fréchet means and their three gradients against fifty digits."""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from reference import reference_mean

from loupe.geometry import Hyperboloid, PoincareBall, frechet_mean, graph_frechet_mean

MEAN, GRADIENT = 1e-9, 1e-8
CURVATURES = (-1.0, -0.5, -2.3)
RADII = (0.3, 0.9, 0.999, 0.99999)
SHAPES = {0.3: (5, 3), 0.9: (4, 2), 0.999: (3, 2), 0.99999: (4, 3)}  # n and d at each radius
MANIFOLDS = {"ball": PoincareBall, "hyperboloid": Hyperboloid}


def directions(rng, n, d):
    """Unit vectors, shape (n, d)."""
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def spread(rng, n, d, radius):
    """Points all over the ball of radius 1, the first of them at the radius given, shape (n, d)."""
    share = np.append(1.0, rng.uniform(0.8, 1.0, n - 1))
    return directions(rng, n, d) * np.tanh(np.arctanh(radius) * share)[:, None]


def cluster(rng, n, d, radius, diameter=1.0):
    """Points within ``diameter / 2`` of one at the radius given, in hyperbolic distance, shape (n, d)."""
    a = directions(rng, 1, d) * radius
    b = directions(rng, n, d) * np.tanh(diameter / 4 * rng.uniform(0.5, 1.0, (n, 1)))
    product, square = (a * b).sum(1, keepdims=True), (b * b).sum(1, keepdims=True)
    numerator = (1 + 2 * product + square) * a + (1 - radius**2) * b
    return numerator / (1 + 2 * product + radius**2 * square)


def ambient(points, curvature):
    """The doubles nearest to where the hyperboloid has points of the unit ball, shape (n, d + 1)."""
    space = 2 * points / (1 - (points * points).sum(1, keepdims=True)) / np.sqrt(-curvature)
    return np.concatenate([np.sqrt((space * space).sum(1, keepdims=True) - 1 / curvature), space], axis=1)


def problem(model, kind, n, d, radius, curvature, seed=0):
    """Points of the model, weights that do not sum to 1, and a cotangent."""
    rng = np.random.default_rng([seed, n, d])
    points = {"spread": spread, "cluster": cluster}[kind](rng, n, d, radius)
    points = points / np.sqrt(-curvature) if model == "ball" else ambient(points, curvature)
    return points, rng.uniform(0.2, 2.0, n), rng.standard_normal(points.shape[1])


def computed(model, points, weights, curvature, cotangent, dtype=torch.float64):
    """The library's mean and gradients, each a numpy array of float64."""
    inputs = [torch.tensor(one, dtype=dtype, requires_grad=True) for one in (points, weights, curvature)]
    mean = frechet_mean(*inputs[:2], MANIFOLDS[model](curvature=inputs[2]))
    gradients = torch.autograd.grad(mean, inputs, torch.as_tensor(cotangent, dtype=dtype).expand_as(mean))
    return [one.detach().double().numpy() for one in (mean, *gradients)]


def expected(model, points, weights, curvature, cotangent):
    """The same in fifty digits, rounded."""
    mean, gradients = reference_mean(model, points, weights, curvature, cotangent)
    return [np.array(one, dtype=np.float64) for one in (mean, *gradients)]


def size(model, mean, curvature):
    """What an error of the mean is measured by: the radius of the ball, the length of the ambient vector."""
    return 1 / np.sqrt(-curvature) if model == "ball" else np.linalg.norm(mean)


def compare(model, problem, curvature, mean_error=MEAN, gradient_error=GRADIENT, floor=0.0):
    """Mean, and gradients by the length of each; where a gradient is 0, by ``floor``."""
    points, weights, cotangent = problem
    found = computed(model, points, weights, curvature, cotangent)
    right = expected(model, points, weights, curvature, cotangent)
    errors = {"mean": np.linalg.norm(found[0] - right[0]) / size(model, right[0], curvature) / mean_error}
    for name, one, other in zip(("points", "weights", "curvature"), found[1:], right[1:], strict=True):
        assert one.shape == other.shape
        errors[name] = np.linalg.norm(one - other) / max(np.linalg.norm(other), floor) / gradient_error
    assert max(errors.values()) < 1, f"errors in units of what is allowed: {errors}"


def every_case(radii):
    """Each curvature, radius and kind."""
    return pytest.mark.parametrize(
        ("curvature", "radius", "kind"),
        [(k, radius, kind) for k in CURVATURES for radius in radii for kind in ("spread", "cluster")],
    )


@every_case(RADII)
def test_the_ball_as_fifty_digits_have_it(curvature, radius, kind):
    compare("ball", problem("ball", kind, *SHAPES[radius], radius, curvature), curvature)


@every_case(RADII[:3])
def test_the_hyperboloid_as_fifty_digits_have_it(curvature, radius, kind):
    compare("hyperboloid", problem("hyperboloid", kind, *SHAPES[radius], radius, curvature), curvature)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_hyperboloid_far_out(curvature):
    """Ambient vectors of length 1e5, far from each other: rounding them changes their distances little."""
    points = problem("hyperboloid", "spread", *SHAPES[0.99999], 0.99999, curvature)
    compare("hyperboloid", points, curvature)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_cluster_far_out_on_the_hyperboloid(curvature):
    """The same, close to each other: rounding moves K <x, y> by 1e-5, and no more may be asked than doubles have."""
    points, *others = problem("hyperboloid", "cluster", *SHAPES[0.99999], 0.99999, curvature)
    loss = np.finfo(float).eps * np.square(points).sum(axis=1).max() * -curvature
    compare("hyperboloid", (points, *others), curvature, mean_error=loss, gradient_error=10 * loss)


@pytest.mark.parametrize("model", MANIFOLDS)
@every_case((0.9, 0.999))
def test_one_dimension(model, curvature, radius, kind):
    compare(model, problem(model, kind, 4, 1, radius, curvature), curvature)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", ["spread", "cluster"])
def test_one_dimension_at_the_boundary(curvature, kind):
    compare("ball", problem("ball", kind, 4, 1, 0.99999, curvature), curvature)


@pytest.mark.parametrize("model", MANIFOLDS)
@pytest.mark.parametrize("radius", RADII[:3])
@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_point_and_its_opposite(model, radius, curvature):
    """The mean is the origin, where a root of the solver is 0/0; the gradient to the curvature is 0 in the ball."""
    x = directions(np.random.default_rng(3), 1, 3) * radius
    x = x / np.sqrt(-curvature) if model == "ball" else ambient(x, curvature)
    opposite = -x if model == "ball" else x * [1, -1, -1, -1]
    cotangent = np.random.default_rng(4).standard_normal(x.shape[1])
    compare(model, (np.concatenate([x, opposite]), np.full(2, 0.7), cotangent), curvature, floor=1e-2)


@pytest.mark.parametrize("model", MANIFOLDS)
@pytest.mark.parametrize("radius", [0.3, 0.9])
@pytest.mark.parametrize("curvature", CURVATURES)
def test_coincident_points(model, radius, curvature):
    """All points equal, and two equal ones beside a third."""
    (a, b), weights, cotangent = problem(model, "spread", 2, 2, radius, curvature)
    compare(model, (np.stack([a, a, b]), np.append(weights, 0.4), cotangent), curvature)
    compare(model, (np.stack([a, a, a]), np.append(weights, 0.4), cotangent), curvature, floor=1e-2)


def test_a_weight_of_zero():
    points, weights, cotangent = problem("ball", "spread", 4, 2, 0.9, -1.0)
    compare("ball", (points, weights * [1, 0, 1, 1], cotangent), -1.0)


@pytest.mark.parametrize("model", MANIFOLDS)
def test_single_precision_in_a_small_cluster(model):
    """Points that differ in their last four digits: the reference starts from the same single-precision numbers."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points = cluster(rng, 5, 3, 0.5, diameter=1e-3)
        points = (points if model == "ball" else ambient(points, -1.0)).astype(np.float32)
        weights = rng.uniform(0.2, 2.0, 5).astype(np.float32)
        mean, _ = reference_mean(model, points, weights, -1.0)
        found = frechet_mean(torch.tensor(points), torch.tensor(weights), MANIFOLDS[model]())
        assert found.dtype == torch.float32
        assert np.linalg.norm(found.numpy() - np.array(mean, dtype=np.float64)) < 1e-6


@pytest.mark.parametrize("model", MANIFOLDS)
def test_single_precision_gradients(model):
    points, weights, cotangent = problem(model, "spread", 4, 2, 0.7, -1.0)
    rounded = [one.astype(np.float32) for one in (points, weights, cotangent)]
    found = computed(model, *rounded[:2], -1.0, rounded[2], dtype=torch.float32)
    for one, other in zip(found, expected(model, *rounded[:2], -1.0, rounded[2]), strict=True):
        # The curvature's gradient is what is left of larger terms.
        assert np.linalg.norm(one - other) < 1e-5 * max(np.linalg.norm(other), 0.1)


@pytest.mark.parametrize("model", MANIFOLDS)
@pytest.mark.parametrize("leading", [(), (1,), (2, 1)])
def test_leading_shapes(model, leading):
    """The same problem in every place; the curvature's gradient adds up over them."""
    points, weights, cotangent = problem(model, "spread", 3, 2, 0.9, -2.3)
    spread_out = [np.broadcast_to(one, leading + one.shape).copy() for one in (points, weights)]
    found = computed(model, *spread_out, -2.3, cotangent)
    right = expected(model, points, weights, -2.3, cotangent)
    right[3] = right[3] * int(np.prod(leading))
    for one, other in zip(found[:3], right[:3], strict=True):
        assert one.shape == leading + other.shape
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=1e-8, atol=1e-9)


def test_a_graph():
    """Every node's mean over the sources of its edges, one of them in the mean of all."""
    points, _, cotangent = problem("ball", "spread", 4, 2, 0.9, -0.5)
    sources, destinations = [0, 1, 2, 3, 0, 2, 0, 3, 0], [0, 0, 0, 0, 1, 1, 2, 2, 3]
    weights = np.random.default_rng(5).uniform(0.2, 2.0, len(sources))
    inputs = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in (points, weights, -0.5)]
    means = graph_frechet_mean(
        inputs[0], torch.tensor([sources, destinations]), inputs[1], PoincareBall(curvature=inputs[2])
    )
    gradients = torch.autograd.grad(means, inputs, torch.tensor(cotangent).expand_as(means))
    right = [np.zeros_like(points), np.zeros_like(weights), 0.0]
    for node in range(4):
        (edges,) = np.nonzero(np.equal(destinations, node))
        rows = np.take(sources, edges)
        mean, *parts = expected("ball", points[rows], weights[edges], -0.5, cotangent)
        assert np.linalg.norm(means[node].detach().numpy() - mean) < MEAN
        np.add.at(right[0], rows, parts[0])
        right[1][edges] = parts[1]
        right[2] += parts[2]
    for one, other in zip(gradients, right, strict=True):
        assert np.linalg.norm(one.numpy() - other) < GRADIENT * np.linalg.norm(other)


def relative(found, right):
    """Largest difference of two lists of mpmath numbers, by the largest number of the second."""
    with mp.workdps(60):
        return max(abs(a - b) for a, b in zip(found, right, strict=True)) / max(map(abs, right))


@pytest.mark.parametrize("model", MANIFOLDS)
@pytest.mark.parametrize("kind", ["spread", "cluster"])
def test_the_reference_itself_in_more_digits(model, kind):
    """What fifty digits give has eighteen that eighty confirm, at the boundary too."""
    points, weights, cotangent = problem(model, kind, 3, 2, 0.99999, -2.3)
    usual, more = (reference_mean(model, points, weights, -2.3, cotangent, digits) for digits in (50, 80))
    assert relative(usual[0], more[0]) < 1e-30
    for one, other in zip(usual[1], more[1], strict=True):
        assert relative(np.ravel(one), np.ravel(other)) < 1e-18


def test_the_reference_itself_in_closed_form():
    """In one dimension artanh turns the ball into a line, where means and derivatives are known."""
    points, weights, _ = problem("ball", "spread", 4, 1, 0.999, -0.5)
    with mp.workdps(50):
        c, x, w = mpf("0.5"), [mpf(float(one)) for one in points[:, 0]], [mpf(float(one)) for one in weights]
        root, total = mp.sqrt(c), sum(w)
        line = [mp.atanh(root * x_l) for x_l in x]
        middle = mp.fdot(w, line) / total
        mean = mp.tanh(middle) / root
        width = 1 - c * mean**2
        by_points = [w_l / total * width / (1 - c * x_l**2) for w_l, x_l in zip(w, x, strict=True)]
        by_weights = [(one - middle) / total * width / root for one in line]
        by_curvature = (mean - mp.fdot(by_points, x)) / (2 * c)  # by Euler: a dilation changes nothing else
        found, gradients = reference_mean("ball", points, weights, -0.5, [1.0])
    assert relative(found, [mean]) < 1e-40
    assert relative([row[0] for row in gradients[0]], by_points) < 1e-25
    assert relative(gradients[1], by_weights) < 1e-25
    assert relative([gradients[2]], [by_curvature]) < 1e-25
