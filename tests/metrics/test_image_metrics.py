"""Image metrics against matrix roots, closed forms, sorted samples and loops over pairs."""

import math
import re
import sys
import types
import urllib.error
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import wasserstein_distance

from loupe.errors import LoupeError
from loupe.metrics import images
from loupe.metrics.images import (
    class_score,
    energy_distance,
    frechet_distance,
    inception_scores,
    sliced_wasserstein,
)


def features(n, d, seed=0):
    """Correlated rows with a mean."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def exactly_normal(mean, root, n=200, seed=0):
    """Rows whose mean and covariance (divisor n - 1) are those asked for, up to rounding."""
    rows = np.random.default_rng(seed).normal(size=(n, len(root)))
    rows -= rows.mean(axis=0)
    white = np.linalg.qr(rows)[0] * math.sqrt(n - 1)
    return white @ root + mean


# --- Fréchet distance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 7, 30])
def test_frechet_distance_is_its_formula_with_a_matrix_root(d):
    a, b = features(80, d), features(57, d, seed=1)
    of_a, of_b = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (a, b))
    cross = np.trace(sqrtm(of_a @ of_b)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(of_a) + np.trace(of_b) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_normal_laws_with_one_basis():
    basis, of_a, of_b = rotation(5), np.array([3, 2, 1, 0.5, 0.01]), np.array([1, 2, 4, 0.1, 1])
    shift = np.array([1, 0, -2, 0, 0.5])
    a = exactly_normal(np.zeros(5), basis * of_a @ basis.T)
    b = exactly_normal(shift, basis * of_b @ basis.T, seed=1)
    expected = (shift**2).sum() + ((of_a - of_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_frechet_distance_of_a_set_to_itself_and_to_a_shifted_one(scale):
    a = scale * features(400, 64)
    a[:, :20] = scale  # units that are always on or off, as after a ReLU
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * scale**2)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9 * scale**2)
    assert frechet_distance(a, a + scale / 10) == pytest.approx(64 * (scale / 10) ** 2, rel=1e-7)


def test_constant_features_cost_no_digits():
    """They add only the square of their difference; a root of a square root would miss it by 1e-8."""
    a, b = features(300, 4), features(300, 4, seed=1)
    still = np.ones((300, 100))
    expected = frechet_distance(a, b) + 100 * 0.25
    assert frechet_distance(np.hstack([a, still]), np.hstack([b, still * 1.5])) == pytest.approx(
        expected, rel=1e-11
    )


def test_frechet_distance_does_not_see_turns_or_shifts_of_both():
    a, b, turn = features(90, 8), features(70, 8, seed=1), rotation(8)
    expected = frechet_distance(a, b)
    assert frechet_distance(a @ turn + 3, b @ turn + 3) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(2 * a, 2 * b) == pytest.approx(4 * expected, rel=1e-9)


def test_frechet_distance_of_tensors():
    a, b = features(90, 8).astype(np.float32), features(70, 8, seed=1).astype(np.float32)
    expected = frechet_distance(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == expected
    assert frechet_distance(torch.tensor(a, requires_grad=True), torch.tensor(b)) == expected
    halves = [torch.tensor(one).bfloat16() for one in (a, b)]
    assert frechet_distance(*halves) == frechet_distance(*(one.double() for one in halves))


# --- class score --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_class_score_from_one_to_the_number_of_classes(classes):
    assert class_score(np.tile(np.eye(classes), (4, 1))) == pytest.approx(classes, rel=1e-12)
    assert class_score(np.tile(np.eye(classes)[:1], (4, 1))) == 1
    assert class_score(np.full((7, classes), 1 / classes)) == pytest.approx(1, abs=1e-12)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_class_score_is_its_definition(seed, n, classes):
    rows = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=n)
    mean = [sum(row[c] for row in rows) / n for c in range(classes)]
    kl = [sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True) if p > 0) for row in rows]
    score = class_score(rows)
    assert score == pytest.approx(math.exp(sum(kl) / n), rel=1e-10)
    assert 1 <= score <= min(n, classes) * (1 + 1e-12)


def test_class_score_forgives_the_rounding_of_a_softmax():
    rows = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert class_score(rows * (1 + 5e-5)) == pytest.approx(class_score(rows.double()), rel=1e-6)


# --- sliced Wasserstein -------------------------------------------------------------------------------------


def test_sliced_wasserstein_on_a_line_compares_sorted_values():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.gamma(2, size=40)
    expected = math.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2))
    assert sliced_wasserstein(a[:, None], b[:, None], projections=3) == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_sliced_wasserstein_of_sets_of_two_sizes_repeats_points(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    many = math.lcm(n, m)
    repeated = [np.repeat(one, many // len(one), axis=0) for one in (a, b)]
    found = sliced_wasserstein(a, b, projections=5)
    assert found == pytest.approx(sliced_wasserstein(*repeated, projections=5), rel=1e-12, abs=1e-15)
    assert found == pytest.approx(sliced_wasserstein(b, a, projections=5), rel=1e-12, abs=1e-15)
    on_one_line = wasserstein_distance(a[:, 0], b[:, 0])  # the mean distance is at most its root mean square
    assert sliced_wasserstein(a[:, :1], b[:, :1]) >= on_one_line - 1e-12


def test_sliced_wasserstein_of_shifts_and_spreads():
    points = np.random.default_rng(0).normal(size=(50, 12))
    assert sliced_wasserstein(points, points) == 0
    assert sliced_wasserstein(points, points[::-1]) == pytest.approx(0, abs=1e-12)
    shift = np.arange(12) / 10
    # A squared cosine is Beta(1/2, 11/2): mean 1/12 and a standard deviation of 0.11.
    square = sliced_wasserstein(points, points + shift, projections=4000) ** 2
    assert square == pytest.approx((shift**2).sum() / 12, rel=4 * 0.11 * 12 / math.sqrt(4000))
    # Doubled points move on each line by their own projection, so the mean square is E|x|^2 / d.
    square = sliced_wasserstein(points, 2 * points, projections=4000) ** 2
    assert square == pytest.approx((points**2).sum(axis=1).mean() / 12, rel=0.03)


def test_lines_are_seeded_and_uniform():
    a, b = features(60, 5), features(60, 5, seed=1)
    assert sliced_wasserstein(a, b, seed=1) == sliced_wasserstein(a, b, seed=1)
    assert sliced_wasserstein(a, b, seed=1) != sliced_wasserstein(a, b, seed=2)
    turn = rotation(5)
    found = sliced_wasserstein(a @ turn, b @ turn, projections=5000)
    assert found == pytest.approx(sliced_wasserstein(a, b, projections=5000), rel=0.05)


def test_images_are_flattened_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(256, size=(n, 2, 3, 4), dtype=np.uint8) for n in (11, 7))
    expected = sliced_wasserstein(a.reshape(11, 24).astype(float), b.reshape(7, 24).astype(float))
    monkeypatch.setattr(images, "BLOCK", 50)
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-12)


# --- energy distance ----------------------------------------------------------------------------------------


@given(st.integers(2, 7), st.integers(2, 7), st.integers(1, 3), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_energy_distance_is_a_mean_over_pairs(n, m, d, block):
    rng = np.random.default_rng(n + 10 * m)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 1
    between = np.mean([math.dist(x, y) for x in a for y in b])
    of_a, of_b = (np.mean([math.dist(x, y) for x, y in combinations(one, 2)]) for one in (a, b))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "BLOCK", block)
        assert energy_distance(a, b) == pytest.approx(2 * between - of_a - of_b, abs=1e-12)


def test_energy_distance_differs_from_the_biased_one_by_its_bias():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(size=20) + 0.5
    of_a, of_b = (np.mean([abs(x - y) for x, y in combinations(one, 2)]) for one in (a, b))
    expected = scipy_energy(a, b) ** 2 - of_a / 30 - of_b / 20  # scipy's is a root, of all pairs
    assert energy_distance(a[:, None], b[:, None]) == pytest.approx(expected, abs=1e-12)


def test_energy_distance_has_no_bias_and_knows_normal_laws():
    rng = np.random.default_rng(0)
    same = [energy_distance(rng.normal(size=(20, 2)), rng.normal(size=(30, 2))) for _ in range(400)]
    error = np.std(same) / math.sqrt(400)
    assert abs(np.mean(same)) < 4 * error < 0.02
    assert 0.2 < np.mean(np.less(same, 0)) < 0.8
    # On a line, E|N(m, 2)| = 2 exp(-m^2 / 4) / sqrt(pi) + m erf(m / 2).
    m = 1.5
    folded = 2 * math.exp(-(m**2) / 4) / math.sqrt(math.pi) + m * math.erf(m / 2)
    found = energy_distance(rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1)) + m)
    assert found == pytest.approx(2 * folded - 4 / math.sqrt(math.pi), rel=0.1)


def test_energy_distance_of_a_set_to_itself_misses_the_pairs_with_itself():
    points = features(40, 2)
    mean = np.mean([math.dist(x, y) for x, y in combinations(points, 2)])
    assert energy_distance(points, points) == pytest.approx(-2 * mean / 40, rel=1e-10)
    turned = points @ rotation(2) + 5
    other = features(30, 2, seed=1)
    assert energy_distance(turned, other @ rotation(2) + 5) == pytest.approx(energy_distance(points, other))
    assert energy_distance(torch.tensor(points), torch.tensor(other)) == energy_distance(points, other)


# --- Inception ----------------------------------------------------------------------------------------------


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def fidelity(monkeypatch):
    """A stand-in for torch-fidelity that keeps what it is called with."""
    module = types.ModuleType("torch_fidelity")

    def calculate_metrics(**arguments):
        module.arguments = arguments
        return {
            "inception_score_mean": np.float64(9.5),
            "inception_score_std": np.float64(0.1),
            "frechet_inception_distance": np.float64(2.7),
        }

    module.calculate_metrics = calculate_metrics
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    return module


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_inception_is_asked_for_both_scores_of_the_samples(fidelity, kind):
    samples, reference = pictures(12), pictures(15, seed=1)
    found = inception_scores(kind(samples), kind(reference), batch=5)
    assert (found.frechet_inception_distance, found.inception_score, found.inception_score_std) == (
        2.7,
        9.5,
        0.1,
    )
    first, second = fidelity.arguments.pop("input1"), fidelity.arguments.pop("input2")
    for data, expected in ((first, samples), (second, reference)):
        assert isinstance(data, torch.utils.data.Dataset)
        assert data[0].dtype == torch.uint8  # the very thing that torch-fidelity checks
        batches = list(torch.utils.data.DataLoader(data, batch_size=5))
        np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)
    assert fidelity.arguments == {
        "fid": True,
        "isc": True,
        "isc_splits": 10,
        "cuda": torch.cuda.is_available(),
        "batch_size": 5,
        "save_cpu_ram": True,
        "verbose": False,
    }


def test_without_torch_fidelity_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(LoupeError, match=re.escape('run pip install -e ".[inception]"')):
        inception_scores(pictures(10), pictures(10))


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("no route"), EOFError("no route")]
)
def test_without_weights_the_error_says_where_to_put_them(fidelity, monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(fidelity, "calculate_metrics", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/hub")
    with pytest.raises(
        LoupeError, match=r"cannot be loaded.*no route.*weights-inception\S*\.pth.*/hub/checkpoints"
    ):
        inception_scores(pictures(10), pictures(10))


def test_faults_of_inception_itself_pass(fidelity, monkeypatch):
    def fail(**_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fidelity, "calculate_metrics", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        inception_scores(pictures(10), pictures(10))


# --- bad input ----------------------------------------------------------------------------------------------

ROWS = np.zeros((5, 2))
BROKEN = np.where(np.arange(10).reshape(5, 2) == 4, math.nan, 1.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: frechet_distance(features(9, 2), features(9, 3)), "rows of a have 2 numbers, those of b 3"),
        (
            lambda: frechet_distance(features(9, 8), features(8, 8)),
            "b has 8 rows of 8 features, so its covariance is singular: give at least 9 rows, better 80",
        ),
        (lambda: frechet_distance(features(8, 8), features(9, 8)), "a has 8 rows of 8 features"),
        (lambda: frechet_distance(ROWS, BROKEN), "b has numbers that are not finite in 1 of 5 rows"),
        (lambda: frechet_distance(ROWS, ROWS + math.inf), "not finite in 5 of 5 rows"),
        (
            lambda: frechet_distance(ROWS[0], ROWS),
            "a must have shape (n, d), with at least one row, got (2,)",
        ),
        (lambda: class_score([[0.5, 0.4]]), "a least value 0.4 and a sum 0.9: apply a softmax"),
        (lambda: class_score([[1.5, -0.5]]), "a least value -0.5 and a sum 1"),
        (lambda: class_score([[0.5, 0.5], [0.5, 0.5002]]), "a sum 1.0002"),
        (lambda: class_score([[math.nan, 1]]), "probabilities has numbers that are not finite"),
        (lambda: class_score(np.zeros((0, 3))), "at least one row, got (0, 3)"),
        (
            lambda: sliced_wasserstein(ROWS, ROWS, projections=0),
            "projections must be a positive whole number, got 0",
        ),
        (lambda: sliced_wasserstein(ROWS, np.zeros((5, 1, 2))), "have shape (2,), those of b (1, 2)"),
        (
            lambda: sliced_wasserstein(ROWS, ROWS[:0]),
            "b must be samples of shape (n, ...), at least one, got",
        ),
        (lambda: sliced_wasserstein(ROWS[0], ROWS), "a must be samples of shape (n, ...)"),
        (lambda: sliced_wasserstein(ROWS, BROKEN), "b has numbers that are not finite"),
        (lambda: energy_distance(ROWS, ROWS[:1]), "b must have at least 2 points to make a pair, got 1"),
        (lambda: energy_distance(ROWS, np.zeros((5, 3))), "rows of a have 2 numbers, those of b 3"),
        (lambda: energy_distance(BROKEN, ROWS), "a has numbers that are not finite"),
        (
            lambda: inception_scores(pictures(10) / 255, pictures(10)),
            "samples must be uint8 images with values",
        ),
        (lambda: inception_scores(torch.zeros(10, 3, 8, 8), pictures(10)), "got float32: scale and round"),
        (
            lambda: inception_scores(pictures(10), pictures(10)[:, :1]),
            "reference must be images of shape (n, 3, H, W), got (10, 1, 8, 8): put channels second",
        ),
        (lambda: inception_scores(pictures(9), pictures(10)), "samples must have at least 10 images"),
        (lambda: inception_scores(pictures(10), pictures(10), batch=0), "batch must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()
