r"""Kendall's rank correlation: permutation test, partial and granulated versions, bootstrap.

A pair of runs is concordant if the run with the larger :math:`x` also has the larger :math:`y`. With :math:`S` the
number of concordant minus discordant pairs, :math:`\tau_b=S/\sqrt{(n_0-n_x)(n_0-n_y)}`: of :math:`n_0=n(n-1)/2` pairs,
:math:`n_x` and :math:`n_y` are tied in :math:`x` and in :math:`y`.
"""

import math
from dataclasses import dataclass

import numpy as np

from loupe.checks import unmasked, whole


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its permutation test.

    Attributes
    ----------
    tau : float
        In [-1, 1]; nan where undefined.
    p_value : float
        In (0, 1]; nan where tau is nan, or if the strata leave nothing to shuffle.
    """

    tau: float
    p_value: float


@dataclass(frozen=True)
class GranulatedCorrelation:
    """What :func:`granulated_kendall` found.

    Attributes
    ----------
    tau : float
        Mean over the hyperparameters for which it is defined; nan if there are none.
    of : dict of str to float
        For each hyperparameter, the mean over its sub-grids; nan if all are omitted.
    subgrids : dict of str to int
        Number of sub-grids in each of these means.
    """

    tau: float
    of: dict
    subgrids: dict


# --- correlation --------------------------------------------------------------------------------------------


def kendall(x, y):
    """Kendall's tau-b of two columns of runs.

    Parameters
    ----------
    x, y : array, shape (n,)
        Finite numbers of at least three runs.

    Returns
    -------
    float
        In [-1, 1]; nan if x or y is constant.

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than three runs, or a value is not finite.

    Examples
    --------
    >>> round(kendall([1, 2, 3, 4], [1, 2, 4, 3]), 12)
    0.666666666667
    """
    return tau_b(*checked_columns(x=x, y=y))


def permutation_test(x, y, *, strata=None, draws=10_000, seed=0, alternative="greater"):
    r"""Kendall's tau-b with a permutation test: x is shuffled over the runs.

    If :math:`c` of :math:`N` shuffles are at least as extreme, the p-value is :math:`(1+c)/(1+N)`, so it is never zero.

    Parameters
    ----------
    x, y : array, shape (n,)
        Finite numbers of at least three runs.
    strata : array, shape (n,), optional
        Labels; x is shuffled among runs of equal label only.
    draws : int
        Shuffles, at least 1.
    seed : int or numpy.random.Generator
    alternative : {"greater", "less", "two-sided"}
        Extreme means large, small, or either: two-sided is twice the smaller one-sided value, since within strata the
        shuffled correlations need not be centered at zero.

    Returns
    -------
    Correlation

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than three runs, a value is not finite, or an option is not known.

    Examples
    --------
    >>> permutation_test(range(8), range(8), draws=999).p_value
    0.001
    """
    x, y = checked_columns(x=x, y=y)
    strata = np.zeros(len(x)) if strata is None else checked_labels("strata", strata, len(x))
    draws = whole("draws", draws)
    if alternative not in P_VALUES:
        raise ValueError(f"unknown alternative {alternative!r}; choose one of {', '.join(P_VALUES)}")
    tau = kendall(x, y)
    movable = any(np.ptp(x[runs]) > 0 and np.ptp(y[runs]) > 0 for runs in groups_of_equal([strata], len(x)))
    if math.isnan(tau) or not movable:
        return Correlation(tau, math.nan)
    (observed,) = concordance(x, y, np.arange(len(x))[None])
    shuffled = concordance(x, y, shuffles_within(strata, draws, np.random.default_rng(seed)))
    return Correlation(tau, float(P_VALUES[alternative](observed, shuffled)))


def partial_kendall(x, y, z, *, draws=5_000, seed=0, alternative="greater"):
    r"""Kendall's tau-b of x and y given a third variable.

    :math:`\tau_{xy\cdot z}=(\tau_{xy}-\tau_{xz}\tau_{yz})\big/\sqrt{(1-\tau_{xz}^2)(1-\tau_{yz}^2)}`. The p-value comes
    from shuffling x within strata of z. That keeps :math:`\tau_{xz}` and :math:`\tau_{yz}`, so the test of
    :math:`\tau_{xy}` applies.

    Parameters
    ----------
    x, y, z : array, shape (n,)
        Finite numbers of at least three runs. Runs with exactly equal z form a stratum: round z against rounding
        errors, and bin a continuous z, or there is nothing to shuffle.
    draws, seed, alternative
        As in :func:`permutation_test`.

    Returns
    -------
    Correlation
        Both numbers are nan if one of x, y and z is constant, or z orders the runs as x or y does.

    Raises
    ------
    ValueError
        As :func:`permutation_test` does.

    Examples
    --------
    >>> z = [1, 1, 1, 2, 2, 2]
    >>> round(partial_kendall([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], z).tau, 12)
    1.0
    """
    x, y, z = checked_columns(x=x, y=y, z=z)
    test = permutation_test(x, y, strata=z, draws=draws, seed=seed, alternative=alternative)
    tau = float(partial_tau(test.tau, kendall(x, z), kendall(y, z)))
    return Correlation(tau, math.nan if math.isnan(tau) else test.p_value)


def granulated_kendall(measure, gap, hyperparameters, *, held=None):
    r"""Kendall's tau-b within the grid: one hyperparameter varies, the others are fixed (Jiang et al. 2020).

    For each hyperparameter, runs with equal values of all the others form a sub-grid; tau is averaged over sub-grids,
    then over hyperparameters. Sub-grids where tau is undefined (fewer than two values of the hyperparameter, or a
    constant measure or gap) are omitted.

    Parameters
    ----------
    measure, gap : array, shape (n,)
        Finite numbers of at least three runs.
    hyperparameters : dict of str to array (n,)
        The settings to vary, one at a time; numbers or labels.
    held : dict of str to array (n,), optional
        Further columns to hold fixed: the seed, or the dataset. Without the seed here, repeated runs of a setting share
        a sub-grid, and pairs of them count too.

    Returns
    -------
    GranulatedCorrelation

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than three runs or no hyper-parameter, a value is not finite, or a
        hyperparameter is also held.

    Examples
    --------
    >>> grid = {"rate": [1, 2, 1, 2], "batch": [8, 8, 16, 16]}
    >>> granulated_kendall([1, 2, 3, 4], [1, 2, 0, 1], grid).of
    {'rate': 1.0, 'batch': -1.0}
    """
    measure, gap = checked_columns(measure=measure, gap=gap)
    held = held or {}
    if not hyperparameters:
        raise ValueError("hyperparameters must name at least one column that varies, got none")
    if twice := set(hyperparameters) & set(held):
        raise ValueError(f"{', '.join(sorted(twice))} cannot vary and be held: name it once")
    codes = {
        name: np.unique(checked_labels(name, column, len(gap)), return_inverse=True)[1]
        for name, column in (hyperparameters | held).items()
    }
    of, subgrids = {}, {}
    for name in hyperparameters:
        fixed = [code for other, code in codes.items() if other != name]
        taus = [
            tau_b(measure[runs], gap[runs])
            for runs in groups_of_equal(fixed, len(gap))
            if np.ptp(codes[name][runs]) > 0
        ]
        of[name], subgrids[name] = mean_where_defined(taus), int(np.isfinite(taus).sum())
    return GranulatedCorrelation(mean_where_defined(list(of.values())), of, subgrids)


def bootstrap_kendall(measures, y, *, given=None, draws=2_000, seed=0):
    r"""Kendall's tau-b of several measures with y, over bootstrap resamples of the runs.

    A resample is given by counts :math:`c`, how often each run was drawn. With
    :math:`A_{ij}=\operatorname{sign}(x_i-x_j)` and
    :math:`B` alike for y, :math:`\tau_b=c^\top(A\circ B)\,c\,/\sqrt{c^\top(A\circ A)\,c\;\,c^\top(B\circ B)\,c}`: a run
    drawn twice is tied with itself, and tau-b leaves such pairs out.

    Parameters
    ----------
    measures : array, shape (..., n)
        One or several columns over the same runs, resampled together: their differences are paired.
    y : array, shape (n,)
    given : array, shape (n,), optional
        A third variable, for partial correlations as in :func:`partial_kendall`.
    draws : int
        Resamples, at least 1.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray, shape (draws, ...)
        nan where a resample leaves a column constant, or orders the runs by ``given`` as by the measure or y.

    Raises
    ------
    ValueError
        As :func:`kendall`, and for fewer than one draw.

    Examples
    --------
    >>> x = np.arange(20)
    >>> taus = bootstrap_kendall(x % 7, x, draws=500)
    >>> bool(np.quantile(taus, 0.025) < kendall(x % 7, x) < np.quantile(taus, 0.975))
    True
    """
    draws = whole("draws", draws)
    measures = np.asarray(unmasked("measures", measures), dtype=np.float64)
    columns = [checked_columns(measure=x, y=y) for x in measures.reshape(-1, measures.shape[-1])]
    n = measures.shape[-1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)

    def count(signs):
        return ((drawn @ signs) * drawn).sum(axis=1)

    def taus(x, y):
        a, b = (np.sign(one[:, None] - one) for one in (x, y))
        pairs = np.sqrt(count(a * a) * count(b * b))
        return np.divide(count(a * b), pairs, out=np.full(draws, math.nan), where=pairs > 0)

    found = [taus(x, y) for x, y in columns]
    if given is not None:
        _, z = checked_columns(y=y, given=given)
        found = [partial_tau(xy, taus(x, z), taus(y, z)) for xy, (x, y) in zip(found, columns, strict=True)]
    return np.stack(found, axis=-1).reshape(draws, *measures.shape[:-1])


# --- parts --------------------------------------------------------------------------------------------------


def tau_b(x, y):
    """Tau-b of two or more runs (n,); nan where one of the columns is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic)


def partial_tau(xy, xz, yz):
    """The partial correlation of :func:`partial_kendall` from plain ones; nan where z orders the runs as x or y does."""
    left = np.asarray((1 - np.square(xz)) * (1 - np.square(yz)))
    enough = left > 1e-12  # less is nan, or rounding of a perfect correlation
    return np.divide(xy - xz * yz, np.sqrt(left), out=np.full(left.shape, math.nan), where=enough)


def concordance(x, y, orders):
    """Concordant minus discordant pairs of y with x in many orders at once, exactly.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (n,)
    orders : numpy.ndarray of int, shape (draws, n)
        Each row takes x to ``x[row]``.

    Returns
    -------
    numpy.ndarray of int, shape (draws,)

    Notes
    -----
    Runs are visited by increasing y; for each we count earlier runs with smaller and with larger x. Sets of runs are
    bit sets in 64-bit words, so a count is an "and" and a popcount: n/64 words instead of n numbers.
    """
    smaller, larger, itself = (
        bit_sets(table) for table in (x < x[:, None], x > x[:, None], np.eye(len(x)) > 0)
    )
    met = np.zeros((len(smaller), len(orders)), dtype=np.uint64)
    balance = np.zeros(len(orders), dtype=np.int64)
    for value in np.unique(y):
        tied = [orders[:, i] for i in np.flatnonzero(y == value)]
        for run in tied:
            balance += np.bitwise_count(smaller[:, run] & met).sum(axis=0, dtype=np.int64)
            balance -= np.bitwise_count(larger[:, run] & met).sum(axis=0, dtype=np.int64)
        for run in tied:  # only now: pairs tied in y do not count
            met |= itself[:, run]
    return balance


def bit_sets(members):
    """Rows of booleans (m, n) as bits of words, shape (ceil(n / 64), m), uint64."""
    padded = np.pad(members, ((0, 0), (0, -members.shape[1] % 64)))
    return np.ascontiguousarray(np.packbits(padded, axis=1).view(np.uint64).T)


def shuffles_within(strata, draws, rng):
    """Random orders (draws, n) that permute indices only within labels."""
    orders = np.tile(np.arange(len(strata)), (draws, 1))
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        orders[:, members] = rng.permuted(orders[:, members], axis=1)
    return orders


def p_greater(observed, shuffled):
    """Share of values at least as large as the observed one, itself included."""
    return (1 + np.count_nonzero(shuffled >= observed)) / (1 + len(shuffled))


def p_less(observed, shuffled):
    """Share of values at most as large as the observed one, itself included."""
    return p_greater(-observed, -shuffled)


def p_two_sided(observed, shuffled):
    """Twice the smaller of both fractions, at most 1."""
    return min(1.0, 2 * min(p_greater(observed, shuffled), p_less(observed, shuffled)))


P_VALUES = {"greater": p_greater, "less": p_less, "two-sided": p_two_sided}


def groups_of_equal(columns, n):
    """Indices (m,) of the runs of each combination of values in some columns (n,); without columns, of all runs."""
    rows = np.column_stack([np.zeros(n, dtype=np.intp), *columns])
    group = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(group == g) for g in range(group.max() + 1)]


def mean_where_defined(values):
    """The mean of the values that are not nan; nan if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def checked_columns(**columns):
    """Columns of numbers as float64 arrays (n,), or ValueError naming what is wrong and where."""
    columns = {name: np.asarray(unmasked(name, column), dtype=np.float64) for name, column in columns.items()}
    for name, column in columns.items():
        if column.ndim != 1:
            raise ValueError(f"{name} must be one column of numbers, got shape {column.shape}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"columns must have one value a run, all equally many; got {found}")
    for name, column in columns.items():
        if len(column) < 3:
            raise ValueError(f"need at least 3 runs, got {len(column)}")
        if not np.isfinite(column).all():
            first = int(np.argmin(np.isfinite(column)))
            raise ValueError(
                f"{name} of run {first} is {column[first]}: leave out runs without a finite value"
            )
    return columns.values()


def checked_labels(name, column, n):
    """A column of labels as an array (n,), or ValueError if it is none."""
    column = np.asarray(unmasked(name, column))
    if column.shape != (n,):
        raise ValueError(f"{name} must have one value for each of {n} runs, got shape {column.shape}")
    if column.dtype.kind == "f" and np.isnan(column).any():
        raise ValueError(f"{name} of run {int(np.argmax(np.isnan(column)))} is nan: leave that run out")
    return column
