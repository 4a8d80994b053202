import numpy as np
import pytest
from scipy.stats import kstest, levy_stable

from loupe.topology import CLOUDS, embed_isometrically, pairwise_distances, stable_ou_path
from loupe.topology.clouds import stable_noise


@pytest.mark.parametrize("name", CLOUDS)
def test_shape_type_seed_and_bounds(name):
    cloud = CLOUDS[name]
    points = cloud.sample(300, seed=5)
    assert points.shape == (300, cloud.ambient_dimension)
    assert points.dtype == np.float64
    assert np.array_equal(points, cloud.sample(300, seed=np.random.default_rng(5)))
    assert not np.array_equal(points, cloud.sample(300, seed=6))
    assert cloud.alpha > 0
    assert cloud.dimension <= cloud.ambient_dimension
    if name.startswith(("cube", "cantor", "sierpinski")):
        assert points.min() >= 0
        assert points.max() <= 1


def test_points_lie_on_their_manifolds():
    samples = {name: cloud.sample(300, seed=1).T for name, cloud in CLOUDS.items()}
    np.testing.assert_allclose(np.hypot(*samples["circle"]), 1)
    np.testing.assert_allclose((samples["sphere"] ** 2).sum(axis=0), 1)
    a, b, c, d = samples["flat_torus"]
    np.testing.assert_allclose([np.hypot(a, b), np.hypot(c, d)], 1)
    x, y, z = samples["torus"]
    np.testing.assert_allclose((np.hypot(x, y) - 2) ** 2 + z**2, 1)
    x, y, z = samples["swiss_roll"]
    radius = np.hypot(x, z)
    np.testing.assert_allclose(x, radius * np.cos(radius), atol=1e-9)
    np.testing.assert_allclose(z, radius * np.sin(radius), atol=1e-9)
    assert y.min() >= 0
    assert y.max() <= 21


def test_the_torus_is_uniform_in_area():
    x, y, _ = CLOUDS["torus"].sample(20_000, seed=2).T
    outer = np.hypot(x, y) > 2
    assert outer.mean() == pytest.approx(0.5 + 1 / (2 * np.pi), abs=0.012)  # share of the area beyond R = 2


def test_cantor_points_have_no_digit_one():
    points = CLOUDS["cantor_dust"].sample(500, seed=3)
    for _ in range(20):
        points = 3 * points
        digit = np.floor(points)
        assert set(np.unique(digit)) == {0, 2}
        points = points - digit


def test_sierpinski_points_have_no_middle():
    x, y = CLOUDS["sierpinski"].sample(2000, seed=4).T
    height = y / (np.sqrt(3) / 2)
    weights = np.stack([1 - x - height / 2, x - height / 2, height])  # barycentric coordinates
    for _ in range(8):
        assert weights.min() > -1e-9
        assert (weights.max(axis=0) >= 0.5 - 1e-9).all()  # in one of the three corner triangles
        largest = weights.argmax(axis=0)
        weights = 2 * weights
        weights[largest, np.arange(2000)] -= 1


def test_embedding_keeps_distances(rng):
    points = rng.standard_normal((50, 2))
    embedded = embed_isometrically(points, 1000, rng)
    assert embedded.shape == (50, 1000)
    np.testing.assert_allclose(pairwise_distances(embedded), pairwise_distances(points), rtol=1e-8)
    assert np.abs(embedded).max(axis=0).min() > 0
    with pytest.raises(ValueError, match="at least 2, that of the points; got 1"):
        embed_isometrically(points, 1, rng)


@pytest.mark.parametrize("beta", [1.0, 1.3, 1.7, 2.0])
def test_stable_noise_has_the_stable_distribution(beta):
    noise = stable_noise((3000,), beta, np.random.default_rng(1))
    if beta in (1.0, 2.0):
        law = {1.0: ("cauchy",), 2.0: ("norm", (0, np.sqrt(2)))}[beta]
        assert kstest(noise, *law).pvalue > 0.01
    for t in (0.3, 1.0, 2.0):
        assert np.cos(t * noise).mean() == pytest.approx(np.exp(-(t**beta)), abs=0.05)
    assert np.median(np.abs(noise)) == pytest.approx(levy_stable.ppf(0.75, beta, 0), rel=0.08)


@pytest.mark.parametrize("beta", [1.2, 1.6, 2.0])
def test_increments_are_self_similar(beta):
    """Without reversion, the increment over k steps is that over one, larger by k ** (1 / beta)."""
    path = stable_ou_path(20_000, 3, beta, np.random.default_rng(2), mean_reversion=0.0)
    assert path.shape == (20_000, 3)
    one, many = np.abs(np.diff(path, axis=0)), np.abs(np.diff(path[::16], axis=0))
    assert np.median(many) / np.median(one) == pytest.approx(16 ** (1 / beta), rel=0.06)
    assert np.median(one) == pytest.approx(
        np.median(np.abs(stable_noise((60_000,), beta, np.random.default_rng(3)))) * 20_000 ** (-1 / beta),
        rel=0.03,
    )


def test_brownian_case_has_the_variance_of_an_ornstein_uhlenbeck_process():
    paths = stable_ou_path(200, 20_000, 2.0, np.random.default_rng(4), mean_reversion=3.0)
    time = np.arange(1, 201) / 200
    exact = (1 - np.exp(-6 * time)) / 3  # noise of variance 2 a unit of time, reversion 3
    np.testing.assert_allclose(paths.var(axis=1)[[50, 100, 199]], exact[[50, 100, 199]], rtol=0.04)
    correlation = (paths[99] * paths[199]).mean() / paths[99].var()
    assert correlation == pytest.approx(np.exp(-1.5), abs=0.03)


@pytest.mark.parametrize("beta", [0, -1, 2.1])
def test_index_outside_the_stable_range(beta, rng):
    with pytest.raises(ValueError, match=r"beta must be in \(0, 2\]"):
        stable_ou_path(10, 2, beta, rng)


def test_a_path_needs_a_step(rng):
    with pytest.raises(ValueError, match="steps must be a positive whole number, got 0"):
        stable_ou_path(0, 2, 1.5, rng)
