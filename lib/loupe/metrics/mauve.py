r"""MAUVE-27: how much two sets of character sequences overlap, from 4-gram counts instead of network features.

MAUVE (Pillutla et al. 2021) clusters features of a large language model. Here the features are counts, so values cannot
be compared with published ones: always call it MAUVE-27.
"""

import numpy as np

from loupe.checks import unmasked
from loupe.metrics.text import checked_sequences, window_codes

SYMBOLS = 27
GRAM = 4
HASH_BITS = 12
COMPONENTS = 32
SEQUENCES_PER_CLUSTER = 10
SCALING = 5
LEAST = 20  # enough for two clusters, and for more sequences than components in both sets together


def mauve27(p_sequences, q_sequences, *, seed=0):
    r"""MAUVE-27 of two sets of sequences: near 1 for the same distribution, near 0 if they share no clusters.

    1. Features of a sequence: counts of its 4-grams in 2^12 hashed bins, square roots, unit length. An inner product
       of two is then the Bhattacharyya coefficient of their 4-grams.
    2. The first 32 principal components of both sets together, then k-means of both together with k clusters. The
       cluster frequencies of the two sets are P and Q.
    3. :func:`divergence_area` of P and Q.

    With n the size of the smaller set, :math:`k=\max(2,n/10)`, rounded: about ten sequences of each set in a cluster,
    whatever n is. So by chance two sets from the same distribution score about 0.96 at any n, with a spread of 0.03 at
    n = 200 and 0.01 at n = 1000. More clusters separate better, so values of different sets fall with n; near n = 20
    the score is uninformative. Compare only at equal n and equal length, and show real text against real text as a
    reference. Swapping the sets changes the value by about 0.01, as another seed does.

    Parameters
    ----------
    p_sequences, q_sequences : array of int, shape (n, L) and (m, L)
        Ids 0 to 26; at least 20 sequences of at least 4 symbols, all of the same length.
    seed : int
        Seed of the randomized components and of k-means. Results repeat bit for bit on one thread of one machine;
        several threads add in another order, and a sequence between clusters may change sides.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        If a set is too small, the lengths differ, an id is out of range, or there are fewer distinct sequences than
        clusters.
    """
    from sklearn.cluster import KMeans  # a second to import
    from sklearn.decomposition import PCA

    p, q = (
        checked_set(name, one) for name, one in (("p_sequences", p_sequences), ("q_sequences", q_sequences))
    )
    if p.shape[1] != q.shape[1]:
        raise ValueError(f"p_sequences have length {p.shape[1]}, q_sequences {q.shape[1]}: cut them alike")
    clusters = max(2, round(min(len(p), len(q)) / SEQUENCES_PER_CLUSTER))
    pooled = np.concatenate([p, q])
    if (different := len(np.unique(pooled, axis=0))) < clusters:
        raise ValueError(
            f"only {different} sequences differ, too few for {clusters} clusters: both sets repeat"
        )
    components = PCA(COMPONENTS, svd_solver="randomized", random_state=seed)
    reduced = components.fit_transform(hashed_features(pooled))
    labels = KMeans(clusters, n_init=5, max_iter=500, random_state=seed).fit_predict(reduced)
    p_frequencies, q_frequencies = (
        np.bincount(one, minlength=clusters) / len(one) for one in (labels[: len(p)], labels[len(p) :])
    )
    return divergence_area(p_frequencies, q_frequencies)


def divergence_area(p, q, *, scaling=SCALING):
    r"""Area under the divergence curve of two distributions.

    With :math:`R_\lambda=\lambda P+(1-\lambda)Q`, the curve is
    :math:`\left(e^{-s\,\mathrm{KL}(Q\|R_\lambda)},\,e^{-s\,\mathrm{KL}(P\|R_\lambda)}\right)`, and ends at (1, 0) and
    (0, 1). As in the released MAUVE, it is sampled at 25 values of :math:`\lambda` from 1e-6 to 1 - 1e-6, and joined by
    straight lines.

    Parameters
    ----------
    p, q : array, shape (k,)
        Probabilities that sum to one.
    scaling : float
        s.

    Returns
    -------
    float
        In (0, 1]; 1 if p and q are equal. Swapping them changes nothing.

    Examples
    --------
    >>> divergence_area([0.5, 0.5], [0.5, 0.5])
    1.0
    """
    from scipy.special import rel_entr

    p, q = (np.asarray(unmasked(name, weights), dtype=np.float64) for name, weights in (("p", p), ("q", q)))
    weight = np.linspace(1e-6, 1 - 1e-6, 25)[:, None]
    mixture = weight * p + (1 - weight) * q
    # Rounding can leave a divergence of equal distributions just below zero.
    of_q, of_p = (np.exp(-scaling * np.maximum(rel_entr(one, mixture).sum(axis=1), 0)) for one in (q, p))
    # The weight increases from Q to P, so the first coordinate decreases along the curve.
    return float(-np.trapezoid(np.r_[0, of_p, 1], np.r_[1, of_q, 0]))


def hashed_features(sequences):
    """Counts of 4-grams in hashed bins, square roots, unit length.

    Parameters
    ----------
    sequences : numpy.ndarray of int, shape (n, L)

    Returns
    -------
    numpy.ndarray, shape (n, 4096)
        float32.
    """
    bins = hash_bins(window_codes(sequences, GRAM, SYMBOLS))
    features = np.empty((len(bins), 2**HASH_BITS), dtype=np.float32)
    for row, counted in zip(features, bins, strict=True):
        row[:] = np.bincount(counted, minlength=len(row))
    # The squares sum to the number of windows, so one factor gives all rows unit length.
    return np.sqrt(features / bins.shape[1])


def hash_bins(codes):
    """A fixed bin, 0 to 4095, of each non-negative 32-bit integer.

    The finalizer of MurmurHash3 (32 bits, public domain): with shifts and odd multipliers modulo 2^32, each input bit
    flips each output bit with probability about one half. The bin is the top 12 bits. So 4-grams that differ in one
    symbol collide no more often than others.
    """
    mixed = codes.astype(np.uint32)
    mixed ^= mixed >> 16
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> 13
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> 16
    return (mixed >> (32 - HASH_BITS)).astype(np.int64)


def checked_set(name, sequences):
    """A set of sequences (n, L); ValueError if MAUVE-27 is undefined for it."""
    sequences = checked_sequences(name, sequences, SYMBOLS)
    if sequences.ndim != 2 or len(sequences) < LEAST or sequences.shape[1] < GRAM:
        raise ValueError(
            f"{name} must be at least {LEAST} sequences of at least {GRAM} symbols, shape (n, L), "
            f"got {sequences.shape}"
        )
    return sequences
