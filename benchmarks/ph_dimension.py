"""Persistent-homology dimension: CPU seconds on one thread, compared with gudhi, ripser and the published estimator.

    python benchmarks/ph_dimension.py [--quick] [--json FILE]

Every timed result is first compared with the others. Needs the extra ``loupe[bench]``.
"""

import math
import statistics
import time

import numpy as np
from gudhi.sklearn.rips_persistence import RipsPersistence
from measuring import SHORT, command_line, environment, publish, table, wide_console
from peers.ph_dimension import restated_ph_dimension
from ripser import ripser
from scipy.spatial.distance import pdist, squareform
from threadpoolctl import threadpool_limits

from loupe.topology import h0_lifetimes, pairwise_distances, ph_dimension
from loupe.topology.trees import merge_heights

PACKAGES = ("numpy", "scipy", "gudhi", "ripser", "loupe")
SLOW = 5.0  # seconds: one call is enough
DIMENSION = 10


def cpu_seconds(function):
    """CPU time of a call and its result: median of five samples after a first call, or one slow call."""

    def sample(calls):
        start = time.process_time()
        for _ in range(calls):
            result = function()
        return (time.process_time() - start) / calls, result

    seconds, result = sample(1)
    if seconds < SLOW:
        calls = math.ceil(SHORT / max(seconds, 1e-6))
        seconds = statistics.median(sample(calls)[0] for _ in range(5))
    return seconds, result


def finite_deaths(diagram, n):
    """Sorted deaths of a degree-0 diagram, with the zero bars of duplicates put back, shape (n - 1,)."""
    deaths = np.sort(diagram[np.isfinite(diagram[:, 1]), 1])
    return np.append(np.zeros(n - 1 - len(deaths)), deaths)


def by_gudhi(distances):
    """Degree 0 by gudhi's fastest route, called directly."""
    rips = RipsPersistence(homology_dimensions=0, input_type="full distance matrix", homology_coeff_field=2)
    return finite_deaths(rips.fit_transform([distances])[0], len(distances))


def by_ripser(distances, max_degree):
    """Degree 0 (and more, if asked) by ripser."""
    return finite_deaths(
        ripser(distances, distance_matrix=True, maxdim=max_degree)["dgms"][0], len(distances)
    )


# Name, function of a distance matrix, largest n worth the wait.
H0_ROUTES = (
    ("loupe linkage", lambda d: h0_lifetimes(distances=d, method="linkage"), 5000),
    ("loupe linkage, matrix already checked", merge_heights, 5000),
    ("loupe prim", lambda d: h0_lifetimes(distances=d, method="prim"), 5000),
    ("gudhi RipsPersistence", by_gudhi, 5000),
    ("ripser, maxdim=0", lambda d: by_ripser(d, 0), 5000),
    ("ripser, default (maxdim=1)", lambda d: by_ripser(d, 1), 500),
)


def h0_rows(sizes):
    """Lifetimes from a given distance matrix of normal points in ten dimensions."""
    for n in sizes:
        distances = squareform(pdist(np.random.default_rng(0).standard_normal((n, DIMENSION))))
        reference = h0_lifetimes(distances=distances)
        ours = None
        for name, route, largest in H0_ROUTES:
            if n > largest:
                continue
            seconds, lifetimes = cpu_seconds(lambda route=route, distances=distances: route(distances))
            np.testing.assert_allclose(lifetimes, reference, rtol=1e-5 if "ripser" in name else 1e-12)
            ours = ours or seconds
            yield {
                "task": "H0 lifetimes",
                "n": n,
                "P": DIMENSION,
                "method": name,
                "seconds": seconds,
                "times ours": seconds / ours,
            }


def estimator_rows(columns, max_degrees):
    """The whole estimator: 1000 points in P columns, 16 sizes, one draw a size, all from the same seed."""
    for p in columns:
        points = np.random.default_rng(0).standard_normal((1000, p)).astype(np.float32)
        ours, estimate = cpu_seconds(lambda points=points: ph_dimension(points, legacy_seed=0))
        row = {"task": "estimator, 16 sizes", "n": 1000, "P": p}
        yield row | {"method": "loupe ph_dimension", "seconds": ours, "times ours": 1.0}
        for degree in max_degrees:
            seconds, dimension = cpu_seconds(
                lambda points=points, degree=degree: restated_ph_dimension(points, seed=0, max_degree=degree)
            )
            np.testing.assert_allclose(dimension, estimate.dimension, rtol=1e-3)
            yield row | {
                "method": f"re-statement with ripser, maxdim={degree}",
                "seconds": seconds,
                "times ours": seconds / ours,
            }


def distance_rows(n, p):
    """Distances of a float32 trajectory; the limit is this machine's float64 matrix product, timed here."""
    rng = np.random.default_rng(0)
    walk = rng.standard_normal((n, p), dtype=np.float32)
    walk *= 1e-3 / np.sqrt(p)  # steps of length 1e-3 ...
    walk[0] = rng.standard_normal(p) * 50 / np.sqrt(p)  # ... from a start of norm 50
    walk = np.cumsum(walk, axis=0, out=walk)
    a, b = rng.standard_normal((2, n, 4000))
    gemm, _ = cpu_seconds(lambda: a @ b.T)
    gemm_rate = 2 * n * n * 4000 / gemm
    seconds, distances = cpu_seconds(lambda: pairwise_distances(walk))
    rate = n * n * p / seconds  # half of 2 n^2 P: the product is symmetric
    pairs = rng.integers(n, size=(200, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    direct = np.array([np.linalg.norm(walk[i].astype(np.float64) - walk[j]) for i, j in pairs])
    error = np.abs(distances[tuple(pairs.T)] / direct - 1).max()
    assert error < 1e-6, error
    row = {"task": "distances, float32", "n": n, "P": p}
    yield row | {
        "method": f"loupe pairwise_distances (error {error:.0e})",
        "seconds": seconds,
        "GFLOP/s": rate / 1e9,
        "share of GEMM": rate / gemm_rate,
    }
    yield {
        "task": "float64 GEMM",
        "n": n,
        "P": 4000,
        "method": "numpy a @ b.T",
        "seconds": gemm,
        "GFLOP/s": gemm_rate / 1e9,
    }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    with threadpool_limits(1):
        if options.quick:
            rows = [*h0_rows([200, 500]), *estimator_rows([10], [0]), *distance_rows(300, 10_000)]
        else:
            rows = [
                *h0_rows([200, 500, 1000, 2000, 5000]),
                *estimator_rows([10, 1000], [1, 0]),
                *distance_rows(1000, 100_000),
            ]
    console = wide_console(150)
    console.print(table(f"CPU seconds, one thread, median of 5 (1 beyond {SLOW:g} s)", rows))
    publish(console, environment(PACKAGES), rows, options.json)


if __name__ == "__main__":
    main()
