"""An interpolated n-gram model that scores text."""

import math

import numpy as np

from loupe.metrics.text import LARGEST_TABLE, checked_sequences, window_counts


class NGramJudge:
    r"""An interpolated n-gram model: each order is mixed with the next lower one.

    .. math::

        p_1(c)=\frac{N(c)+1}{N+K},\qquad
        p_k(c\mid x_{1:k-1})=\frac{N(x_{1:k-1}c)+\beta\,p_{k-1}(c\mid x_{2:k-1})}{N(x_{1:k-1}\,\cdot)+\beta}

    :math:`N(x\,\cdot)` counts a context only where a symbol follows, so probabilities sum to one; an unseen context
    falls back on the shorter one. There is no start symbol: sequences are treated as cut from the middle of a text, and
    symbol i of each is scored from the i - 1 before it, by order i, up to `order`.

    Parameters
    ----------
    ids : array of int, shape (..., L)
        Text, or several texts of one length; n-grams do not cross their boundaries.
    symbols : int
        K.
    order : int
        Longest n-gram, context and symbol together. Its table has K**order entries of 8 bytes.
    strength : float
        :math:`\beta>0`, the weight of the lower order, in observations.

    Attributes
    ----------
    tables : list of numpy.ndarray
        :math:`p_k` for each order k: float64 (K**(k-1), K), rows indexed by the context as a number in base K.

    Raises
    ------
    ValueError
        If there is no symbol, an id is out of range, or `order`, `symbols` or `strength` is invalid.

    Examples
    --------
    >>> judge = NGramJudge([0, 1, 0, 1, 0, 1, 0, 1], symbols=2, order=2)
    >>> judge.probabilities([0]).round(3)
    array([0.278, 0.722])
    """

    def __init__(self, ids, *, symbols=27, order=5, strength=5.0):
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        if not (strength > 0 and math.isfinite(strength)):
            raise ValueError(f"strength must be positive and finite, got {strength}")
        ids = checked_sequences("ids", ids, symbols)
        if symbols**order > LARGEST_TABLE:
            raise ValueError(
                f"order {order} of {symbols} symbols has {symbols**order} n-grams, more than {LARGEST_TABLE}: "
                f"choose a smaller order"
            )
        self.symbols, self.order, self.strength = symbols, order, float(strength)
        counts = window_counts(ids, order, symbols)
        of_order = {order: counts}
        for k in range(order - 1, 0, -1):
            # Every window of k symbols ends a longer one, except those at the starts.
            counts = counts.reshape(symbols, -1).sum(axis=0) + window_counts(ids[..., :k], k, symbols)
            of_order[k] = counts
        first = of_order[1].astype(np.float64) + 1
        self.tables = [(first / first.sum())[None]]
        for k in range(2, order + 1):
            shorter = self.tables[-1]
            counts = of_order.pop(k).reshape(symbols, *shorter.shape)
            table = counts + self.strength * shorter
            table /= counts.sum(axis=-1, keepdims=True) + self.strength
            self.tables.append(table.reshape(-1, symbols))

    def bits(self, sequences):
        """Bits of each symbol, given the previous ones in its sequence.

        Parameters
        ----------
        sequences : array of int, shape (..., L)

        Returns
        -------
        numpy.ndarray, shape (..., L)
            float64, positive.

        Raises
        ------
        ValueError
            If there is no symbol, or an id is out of range.
        """
        ids = checked_sequences("sequences", sequences, self.symbols).astype(np.int64)
        codes, length = ids.copy(), ids.shape[-1]
        # Column i ends up with the window of order min(i+1, order).
        for k in range(2, min(self.order, length) + 1):
            codes[..., k - 1 :] += self.symbols ** (k - 1) * ids[..., : length - k + 1]
        probability = np.empty(ids.shape)
        for k, table in enumerate(self.tables, start=1):
            columns = slice(k - 1, k if k < self.order else None)
            probability[..., columns] = table.reshape(-1)[codes[..., columns]]
        return -np.log2(probability)

    def bits_per_character(self, sequences):
        """Mean bits per symbol of each sequence; for samples, the log of generative perplexity.

        Low values alone mean little, since repetitive text has them too: also report :func:`token_entropies`. The first
        symbols have short contexts, so compare sequences of equal length.

        Parameters
        ----------
        sequences : array of int, shape (..., L)

        Returns
        -------
        numpy.ndarray, shape (...)

        Raises
        ------
        ValueError
            As :meth:`bits` does.
        """
        return self.bits(sequences).mean(axis=-1)

    def probabilities(self, contexts):
        """Distribution of the next symbol.

        Parameters
        ----------
        contexts : array of int, shape (..., m)
            Only the last ``order - 1`` symbols matter; m may be less than that, but not 0: the distribution of a first
            symbol is ``tables[0][0]``.

        Returns
        -------
        numpy.ndarray, shape (..., K)
            Positive, and sums to one.

        Raises
        ------
        ValueError
            As :meth:`bits` does.
        """
        ids = checked_sequences("contexts", contexts, self.symbols)
        known = min(self.order - 1, ids.shape[-1])
        ids = ids[..., ids.shape[-1] - known :].astype(np.int64)
        return self.tables[known][ids @ self.symbols ** np.arange(known - 1, -1, -1)]
