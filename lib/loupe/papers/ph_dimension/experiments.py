"""What the chapter runs on sets of known dimension. Each experiment returns all that its figures and claims need."""

import numpy as np
from scipy.spatial import cKDTree

from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.topology import (
    CLOUDS,
    ESTIMATORS,
    embed_isometrically,
    h0_lifetimes,
    lifetime_sum,
    pairwise_distances,
    ph_dimension,
    stable_ou_path,
)

IDENTITY_CLOUDS = ("circle", "sphere", "cube_2", "cube_3", "sierpinski")


def estimated(config, sizes, seed, points=None, **options):
    """The estimate with as many subsets of each size as the settings say."""
    return ph_dimension(points, sizes=sizes, repeats=config.repeats, seed=seed, **options)


@experiment(seeds="one_seed")
def identities(config, *, seed, device):
    """The identities behind the estimator: H0 lifetimes are spanning-tree edges, and sums with closed forms."""
    clouds = {name: CLOUDS[name].sample(config.identity_points, seed) for name in IDENTITY_CLOUDS}
    clouds["duplicates"] = np.tile(CLOUDS["cube_2"].sample(config.identity_points // 2, seed), (2, 1))
    gaps = np.array([_route_gaps(points) for points in clouds.values()])
    plane = CLOUDS["gaussian_plane"].sample(config.cloud_points, seed)
    ambient = embed_isometrically(plane, config.embedding_dimension, np.random.default_rng(seed))
    sheared = plane @ np.random.default_rng(seed).normal(size=(2, 3))
    sizes = range(*config.cloud_sizes)
    plane, ambient, sheared = (
        estimated(config, sizes, seed, points).dimension for points in (plane, ambient, sheared)
    )
    return {
        "clouds": np.array(list(clouds)),
        "routes": np.array(("prim", "gudhi", "alpha")),
        "route_gaps": gaps[:, :3],
        # A wrong implementation that PH1 has to tell apart, as PH2 and PH4 those below.
        "nearest_gaps": gaps[:, 3],
        **_closed_form_errors(),
        "plane_dimension": plane,
        "embedded_dimension": ambient,
        "sheared_dimension": sheared,
    }


def _route_gaps(points):
    """Largest relative difference of sorted lifetimes to those of single linkage, for each other route.

    The last is no route: distances to nearest neighbors in place of tree edges.
    """
    reference = h0_lifetimes(points)
    others = [h0_lifetimes(points, method=route) for route in ("prim", "gudhi", "alpha")]
    others.append(_nearest(points)[1:])  # the tree has one edge less than there are points
    return [np.abs(other - reference).max() / reference.max() for other in others]


def _nearest(points):
    """The distance of each point to its nearest neighbor, ascending."""
    return np.sort(cKDTree(points).query(points, k=2)[0][:, 1])


def _closed_form_errors():
    """Relative errors of lifetime sums whose value is known, over alpha in (0.5, 1, 2); then with nearest neighbors."""
    n, h, radius, level = 60, 0.1, 2.0, 7
    line = np.arange(n)[:, None] * h
    angle = 2 * np.pi * np.arange(n) / n
    polygon = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    grid = h * np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)
    digits = (np.arange(2**level)[:, None] >> np.arange(level)) % 2
    cantor = (2 * digits / 3.0 ** np.arange(1, level + 1)).sum(axis=1, keepdims=True)
    j = np.arange(1, level + 1)
    cases = {
        "line": (line, lambda alpha: (n - 1) * h**alpha),
        "polygon": (polygon, lambda alpha: (n - 1) * (2 * radius * np.sin(np.pi / n)) ** alpha),
        "grid": (grid, lambda alpha: (6**3 - 1) * h**alpha),
        "cantor": (cantor, lambda alpha: (2.0 ** (j - 1) * (3.0**-j + 3.0**-level) ** alpha).sum()),
    }

    def errors(total):
        each = [[abs(total(x, a) / exact(a) - 1) for a in (0.5, 1.0, 2.0)] for x, exact in cases.values()]
        return np.array(each)

    return {
        "closed_forms": np.array(list(cases)),
        "closed_form_errors": errors(lifetime_sum),
        "nearest_sum_errors": errors(lambda points, alpha: (_nearest(points) ** alpha).sum()),
    }


@experiment
def known_dimensions(config, *, seed, device):
    """E1: the estimator on clouds whose dimension is known."""
    sizes, rows = range(*config.cloud_sizes), []
    for name in config.clouds:
        cloud = CLOUDS[name]
        points = cloud.sample(config.cloud_points, seed)
        found = estimated(config, sizes, seed, points, alpha=cloud.alpha)
        fitted = {
            value: getattr(found, value) for value in ("dimension", "slope", "intercept", "lifetime_sums")
        }
        rows.append({"cloud": name, "truth": float(cloud.dimension), "alpha": cloud.alpha} | fitted)
    return columns(rows) | {"sizes": np.array(sizes)}


@experiment(seeds="process_seeds")
def diffusion_processes(config, *, seed, device):
    """E2: paths of stable Ornstein-Uhlenbeck processes, whose dimension is the stable index."""
    sizes, rng, rows = range(*config.process_sizes), np.random.default_rng(seed), []
    for beta in config.betas:
        path = stable_ou_path(config.process_points, config.process_dimension, beta, rng)
        distances = pairwise_distances(path)
        ours = estimated(config, sizes, seed, distances=distances).dimension
        rows.append([ours, *(estimate(distances=distances) for estimate in ESTIMATORS.values())])
    return {
        "beta": np.array(config.betas),
        "estimator": np.array(["persistent homology", *ESTIMATORS]),
        "estimates": np.array(rows).T,
    }


@experiment
def exhausted_paths(config, *, seed, device):
    """Brownian paths, of dimension 2, measured with subsets that take a small or a large part of their points."""
    sizes, rows = np.array(config.noise_sizes), []
    for n, factor in config.exhaustion:
        path = stable_ou_path(n, config.process_dimension, 2.0, np.random.default_rng([seed, n]))
        dimension = estimated(config, range(*(factor * sizes)), seed, path).dimension
        rows.append({"points": n, "largest": factor * range(*sizes)[-1], "dimension": dimension})
    return columns(rows)


@experiment(seeds="one_seed")
def noise_of_one_draw(config, *, seed, device):
    """How far estimates on one fixed cloud spread when only the subsets are drawn again, with 1 and 10 repeats."""
    distances = pairwise_distances(CLOUDS["cube_2"].sample(config.noise_points, seed))
    rows = []
    for repeats in (1, 10):
        options = {"distances": distances, "sizes": range(*config.noise_sizes), "repeats": repeats}
        each = [ph_dimension(**options, seed=[seed, repeats, draw]) for draw in range(config.noise_draws)]
        rows.append({"repeats": repeats, "dimensions": [one.dimension for one in each]})
    return columns(rows)
