r"""Text metrics from counts: entropies of symbols, and total variation of symbol pairs.

Sequences are ids :math:`0\ldots K-1` of K symbols, all of one length; K is 27 for the space and a to z. All entropies
are in bits: 1 nat is 1.4427 bits.
"""

import math

import numpy as np

from loupe.checks import unmasked, whole
from loupe.metrics.rank_correlation import checked_columns

LARGEST_TABLE = 2**27  # probabilities in float64: 1 GiB
BLOCK = 2**23  # symbols counted at once: bounds the memory beside the table itself


# --- entropies ----------------------------------------------------------------------------------------------


def unigram_entropy(sequences, symbols=27):
    r"""Entropy of the symbols of all sequences together, :math:`-\sum_c p_c\log_2 p_c`.

    It misses a sampler that repeats itself within each sequence but varies between them; :func:`token_entropies`
    detects it.

    Parameters
    ----------
    sequences : array of int, shape (..., L)
    symbols : int

    Returns
    -------
    float
        In bits, from 0 to log2(symbols).

    Raises
    ------
    ValueError
        If there is no symbol, or an id is out of range.

    Examples
    --------
    >>> unigram_entropy([[0, 0, 0], [1, 1, 1]])
    1.0
    """
    ids = checked_sequences("sequences", sequences, symbols)
    return float(entropy_of_counts(window_counts(ids, 1, symbols)))


def token_entropies(sequences, symbols=27):
    r"""Entropy of the symbols within each sequence; its mean is the field's "token entropy" (Zheng et al. 2024).

    The entropy of L symbols underestimates that of their distribution by up to about :math:`(K-1)/(2L\ln2)` bits:
    compare with text of the same length. Papers report nats.

    Parameters
    ----------
    sequences : array of int, shape (..., L)
    symbols : int

    Returns
    -------
    numpy.ndarray, shape (...)
        In bits.

    Raises
    ------
    ValueError
        As :func:`unigram_entropy` does.

    Examples
    --------
    >>> token_entropies([[0, 0, 0, 0], [1, 2, 1, 2]])
    array([0., 1.])
    """
    ids = checked_sequences("sequences", sequences, symbols)
    rows = ids.reshape(-1, ids.shape[-1])
    shifted = rows + symbols * np.arange(len(rows))[:, None]
    counts = np.bincount(shifted.reshape(-1), minlength=len(rows) * symbols)
    return entropy_of_counts(counts.reshape(*ids.shape[:-1], symbols))


def bigram_rate_entropy(ids, symbols=27):
    r"""Entropy of a symbol given the one before it, :math:`H(x_2\mid x_1)=H(x_1,x_2)-H(x_1)`.

    It is the entropy rate of the Markov chain with these pairs, and the minimum bits per character of any model that
    uses one previous symbol.

    Parameters
    ----------
    ids : array of int, shape (..., L)
        At least two symbols; pairs do not cross from one sequence to the next.
    symbols : int

    Returns
    -------
    float
        In bits, from 0 to log2(symbols).

    Raises
    ------
    ValueError
        If L is below 2, or an id is out of range.

    Examples
    --------
    >>> bigram_rate_entropy([0, 1, 2, 0, 1, 2])
    0.0
    """
    pairs = bigram_counts(ids, symbols)
    # The difference of two large sums can fall below zero by rounding.
    return max(0.0, float(entropy_of_counts(pairs.reshape(-1)) - entropy_of_counts(pairs.sum(axis=1))))


# --- pairs --------------------------------------------------------------------------------------------------


def bigram_distribution(sequences, symbols=27):
    """Relative frequencies of pairs of neighboring symbols.

    Parameters
    ----------
    sequences : array of int, shape (..., L)
        At least two symbols; pairs do not cross from one sequence to the next.
    symbols : int

    Returns
    -------
    numpy.ndarray, shape (symbols, symbols)
        Sums to one; rows are the first symbol.

    Raises
    ------
    ValueError
        If L is below 2, or an id is out of range.

    Examples
    --------
    >>> bigram_distribution([0, 1, 0], symbols=2)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    pairs = bigram_counts(sequences, symbols)
    return pairs / pairs.sum()


def bigram_total_variation(sequences, reference):
    r"""Total variation :math:`\tfrac12\sum_{ab}|\hat p(a,b)-r(a,b)|` of the pairs of symbols from a table.

    Even samples of the reference are not at 0: m independent pairs give about :math:`\sum_{ab}\sqrt{r(a,b)/(2\pi m)}`.
    Measure that floor too, on the same amount of text.

    Parameters
    ----------
    sequences : array of int, shape (..., L)
        At least two symbols each.
    reference : array, shape (K, K)
        Joint probabilities, for example from :func:`bigram_distribution`; for a stationary chain with distribution `pi`
        and transitions `A`, ``pi[:, None] * A``.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If the table is not square or not a distribution, L is below 2, or an id is out of range.

    Examples
    --------
    >>> bigram_total_variation([0, 1, 0], [[0.25, 0.25], [0.25, 0.25]])
    0.5
    """
    reference = np.asarray(unmasked("reference", reference), dtype=np.float64)
    if reference.ndim != 2 or reference.shape[0] != reference.shape[1]:
        raise ValueError(f"reference must be a square table of pairs, got shape {reference.shape}")
    if not (reference.min() >= 0 and abs(reference.sum() - 1) < 1e-6):
        raise ValueError(
            f"reference must be joint probabilities that sum to 1, got a least value {reference.min():.3g} and a sum "
            f"{reference.sum():.6g}: of transitions A, give pi[:, None] * A"
        )
    return float(np.abs(bigram_distribution(sequences, len(reference)) - reference).sum() / 2)


# --- trends -------------------------------------------------------------------------------------------------


def loglog_fit(x, y):
    r"""Least-squares line :math:`\ln y=m\ln x+b`.

    Parameters
    ----------
    x, y : array, shape (n,)
        Positive numbers, at least three. Bits per character are logarithms already: pass the perplexity ``2**bits``.

    Returns
    -------
    slope, intercept, r_squared : float
        :math:`m`, :math:`b`, and the share of the variance of :math:`\ln y` that the line explains; nan if y is
        constant.

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than three points, a value is not positive and finite, or x is constant.

    Examples
    --------
    >>> slope, intercept, r_squared = loglog_fit([1, 2, 4], [3, 6, 12])
    >>> round(slope, 12), round(r_squared, 12)
    (1.0, 1.0)
    """
    x, y = checked_columns(x=x, y=y)
    for name, column in {"x": x, "y": y}.items():
        if column.min() <= 0:
            raise ValueError(f"{name} must be positive to have a logarithm, got {column.min():g}")
    if np.ptp(x) == 0:
        raise ValueError(f"x must vary to have a slope, got only {x[0]:g}")
    log_x, log_y = np.log(x), np.log(y)
    across, along = log_x - log_x.mean(), log_y - log_y.mean()
    slope = across @ along / (across @ across)
    r_squared = math.nan if np.ptp(y) == 0 else 1 - ((along - slope * across) ** 2).sum() / (along @ along)
    return float(slope), float(log_y.mean() - slope * log_x.mean()), float(r_squared)


# --- parts --------------------------------------------------------------------------------------------------


def entropy_of_counts(counts):
    """Entropy in bits of counts along the last axis, shape (..., m) to (...)."""
    frequencies = counts / counts.sum(axis=-1, keepdims=True)
    return -(frequencies * np.log2(np.where(frequencies > 0, frequencies, 1))).sum(axis=-1) + 0.0  # no -0.0


def bigram_counts(sequences, symbols):
    """Counts (symbols, symbols) of the pairs of neighbors, or ValueError if there are none."""
    ids = checked_sequences("sequences", sequences, symbols)
    if ids.shape[-1] < 2:
        raise ValueError(f"pairs need sequences of at least 2 symbols, got {ids.shape[-1]}")
    return window_counts(ids, 2, symbols).reshape(symbols, symbols)


def window_codes(ids, length, symbols):
    """Each window of some symbols as a number in base `symbols`: ids (..., L) to int32 (..., L - length + 1)."""
    windows = ids.shape[-1] - length + 1
    codes = ids[..., :windows].astype(np.int32)
    for k in range(1, length):
        codes *= symbols
        codes += ids[..., k : k + windows].astype(np.int32, copy=False)
    return codes


def window_counts(ids, length, symbols):
    """How often each window of some symbols occurs in ids (..., L): int64 (symbols**length,), zeros if L is smaller."""
    counts = np.zeros(symbols**length, dtype=np.int64)
    rows = ids.reshape(-1, ids.shape[-1])
    abreast = max(1, BLOCK // rows.shape[1])
    for top in range(0, len(rows), abreast):
        for left in range(0, rows.shape[1] - length + 1, BLOCK):
            block = rows[top : top + abreast, left : left + BLOCK + length - 1]
            counts += np.bincount(window_codes(block, length, symbols).reshape(-1), minlength=len(counts))
    return counts


def checked_sequences(name, sequences, symbols):
    """Sequences of ids as an array of integers (..., L), or ValueError naming what is wrong."""
    sequences, symbols = np.asarray(unmasked(name, sequences)), whole("symbols", symbols)
    if sequences.ndim == 0 or sequences.size == 0:
        raise ValueError(f"{name} must hold at least one symbol, got shape {sequences.shape}")
    if sequences.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {sequences.dtype}: encode the text first")
    if sequences.min() < 0 or sequences.max() >= symbols:
        raise ValueError(
            f"{name} go from {sequences.min()} to {sequences.max()}, outside 0 to {symbols - 1}: sample until no mask "
            f"is left, and leave out symbols for start and end"
        )
    return sequences
