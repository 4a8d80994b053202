"""Re-statement of the published estimator, as a peer to measure against: our words, not the authors' code.

It does what the paper's algorithm does with ripser's defaults: homology of degrees 0 and 1, from points, with
new distances for every subset, and one draw a size.
"""

import warnings

import numpy as np


def restated_ph_dimension(points, seed, sizes=range(200, 1000, 50), max_degree=1):
    """Persistent-homology dimension with alpha = 1.

    Parameters
    ----------
    points : numpy.ndarray, shape (K, P)
    seed : int
        For the legacy numpy generator.
    sizes : sequence of int
    max_degree : int
        1 is ripser's default; 0 leaves out the loops, which the estimate does not use.

    Returns
    -------
    float
    """
    from ripser import ripser

    draw = np.random.RandomState(seed)
    log_sums = []
    for n in sizes:
        subset = points[draw.choice(len(points), size=n, replace=False)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are more columns than rows: so there are
            births, deaths = ripser(subset, maxdim=max_degree)["dgms"][0].T
        finite = np.isfinite(deaths)
        log_sums.append(np.log((deaths[finite] - births[finite]).sum()))
    slope, _ = np.polyfit(np.log(list(sizes)), log_sums, deg=1)
    return 1 / (1 - slope)
