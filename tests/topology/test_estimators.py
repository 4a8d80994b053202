import numpy as np
import pytest

from loupe.topology import (
    CLOUDS,
    ESTIMATORS,
    correlation_dimension,
    mle_dimension,
    pairwise_distances,
    pca_dimension,
    two_nn,
)

KNOWN = ["circle", "sphere", "torus", "cube_2", "cube_3"]


@pytest.fixture(scope="module", params=KNOWN)
def cloud(request):
    return CLOUDS[request.param]


def test_scikit_dimension_agrees(cloud):
    skdim_id = pytest.importorskip("skdim.id")
    points = cloud.sample(400, seed=1)
    assert two_nn(points) == pytest.approx(skdim_id.TwoNN().fit(points).dimension_, rel=1e-9)
    assert mle_dimension(points, k=10) == pytest.approx(
        skdim_id.MLE().fit(points, n_neighbors=10).dimension_, rel=1e-9
    )
    assert correlation_dimension(points) == pytest.approx(skdim_id.CorrInt().fit(points).dimension_, rel=1e-9)
    pca = skdim_id.lPCA(ver="ratio", alphaRatio=0.95).fit(points)
    assert pca_dimension(points) == pca.dimension_


@pytest.mark.parametrize("estimate", [two_nn, mle_dimension, correlation_dimension])
def test_known_dimensions(cloud, estimate):
    points = cloud.sample(1000, seed=2)
    assert estimate(points) == pytest.approx(cloud.dimension, abs=0.1 * cloud.dimension)


def test_pca_counts_directions_of_variance(rng):
    scales = np.array([10.0, 5, 2, 0.1])
    points = rng.standard_normal((500, 4)) * scales + 100
    shares = np.cumsum(scales**2) / (scales**2).sum()
    for variance in (0.5, 0.9, 0.99, 0.9999):
        assert pca_dimension(points, variance=variance) == np.searchsorted(shares, variance) + 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_points_distances_scale_and_duplicates(name, rng):
    estimate, points = ESTIMATORS[name], CLOUDS["sphere"].sample(200, seed=3)
    found = estimate(points)
    assert isinstance(found, float)
    assert estimate(distances=pairwise_distances(points)) == pytest.approx(found, rel=1e-9)
    assert estimate(50 * points) == pytest.approx(found, rel=1e-9)
    repeated = np.concatenate([points, points[:20]])
    assert estimate(repeated) == pytest.approx(found, rel=1e-9)


def test_too_few_points_and_wrong_options():
    few = np.eye(5)
    with pytest.raises(ValueError, match="more than 10 different points, got 5"):
        mle_dimension(few)
    with pytest.raises(ValueError, match="more than 20 different points, got 5"):
        correlation_dimension(few)
    with pytest.raises(ValueError, match="more than 2 different points, got 2"):
        two_nn(np.repeat(np.eye(2), 10, axis=0))
    with pytest.raises(ValueError, match="k must be a whole number of at least 2, got 1"):
        mle_dimension(few, k=1)
    for variance in (0, 1, 95):
        with pytest.raises(ValueError, match="variance must be between 0 and 1"):
            pca_dimension(few, variance=variance)
