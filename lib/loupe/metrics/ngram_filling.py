"""A gap in texts, filled from both sides by counting: exact for a model that looks back a few characters."""

import numpy as np

from loupe.metrics.text import checked_sequences

TEXTS = 4  # at once: of each the weights of all contexts are kept, for each character of the gap


def ngram_infill(model, texts, start, size, random):
    """Fill a gap in texts by an n-gram model, given both sides: exactly, by the forward-backward algorithm.

    Parameters
    ----------
    model : NGramJudge
        It looks back ``order - 1`` symbols.
    texts : array of int, shape (n, L)
    start, size : int
        Of the gap: where it starts, after ``order - 1`` symbols at least, and its symbols.
    random : numpy.random.Generator

    Returns
    -------
    tokens : numpy.ndarray, shape (n, L)
        With gaps drawn given both sides.
    bits : numpy.ndarray, shape (n,)
        Bits per character of what stood in the gap, given both sides.

    Raises
    ------
    ValueError
        If the gap is empty, too near the start or beyond the end, or an id is out of range.
    """
    texts, back = checked_sequences("texts", texts, model.symbols), model.order - 1
    if size < 1 or start < back or start + size > texts.shape[-1]:
        raise ValueError(
            f"a gap is inside the text, after {back} symbols or more; got {size} from {start} on of {texts.shape[-1]}"
        )
    tokens, bits = np.array(texts), []
    stop = start + size + back
    for first in range(0, len(texts), TEXTS):
        part = tokens[first : first + TEXTS]
        contexts = _forward(model, part, start, size)
        contexts[-1] *= _following(model, part, start + size)
        # log p(gap and what follows | what is before) less log p(what follows | what is before)
        joint = model.bits(part[:, :stop])[:, start:].sum(-1)
        bits.append((joint + np.log2(contexts[-1].sum(-1, dtype=np.float64))) / size)
        _draw(model, contexts, part, start, random)
    return tokens, np.concatenate(bits)


def _forward(model, texts, start, size):
    """Weights ``(n, K**back)`` of contexts before each character of the gap, and after the last, given what is before."""
    n, symbols, back = len(texts), model.symbols, model.order - 1
    before = texts[:, start - back : start].astype(np.int64) @ symbols ** np.arange(back - 1, -1, -1)
    weights = np.zeros((n, symbols**back), dtype=np.float32)
    weights[np.arange(n), before] = 1
    table = np.ascontiguousarray(model.tables[-1].reshape(symbols, -1, symbols).swapaxes(0, 1), np.float32)
    contexts = [weights]
    for _ in range(size):
        oldest_last = np.ascontiguousarray(contexts[-1].reshape(n, symbols, -1).transpose(2, 0, 1))
        contexts.append((oldest_last @ table).transpose(1, 0, 2).reshape(n, -1))
    return contexts


def _following(model, texts, stop):
    """The probability of the characters from ``stop`` on after each context, ``(n, K**back)``."""
    found = np.ones((len(texts), len(model.tables[-1])))
    for row, text in zip(found, texts.astype(np.int64), strict=True):
        context = np.arange(row.size)
        for symbol in text[stop : stop + model.order - 1]:
            row *= model.tables[-1][context, symbol]
            context = (context * model.symbols + symbol) % row.size
    return found


def _draw(model, contexts, texts, start, random):
    """Write the gap from its end to its start: each time the oldest character of a context, given the later ones."""
    n, symbols, size = len(texts), model.symbols, len(contexts) - 1
    table = model.tables[-1].reshape(symbols, -1, symbols)
    context = _index(contexts[-1], random)
    for k in range(size - 1, -1, -1):
        shorter, latest = np.divmod(context, symbols)
        texts[:, start + k] = latest
        weights = contexts[k].reshape(n, symbols, -1)[np.arange(n), :, shorter]
        context = _index(weights * table[:, shorter, latest].T, random) * table.shape[1] + shorter


def _index(weights, random):
    """One index for each row of weights ``(n, m)``, drawn in proportion to them."""
    total = np.cumsum(weights, axis=1, dtype=np.float64)
    return (total < random.random((len(weights), 1)) * total[:, -1:]).sum(1)
