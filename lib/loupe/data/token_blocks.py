"""Token ids in blocks of equal length: written in a stream, memory-mapped, drawn as batches.

A corpus is one long sequence: document, end, document, end, and so on. Training sees *blocks*, which do not overlap and
lie in an ``.npy`` file that is mapped into memory, or *crops*, which start anywhere. :class:`Crops` and
:class:`BlockBatches` are functions of the step: shards drawn in different processes make up one batch.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loupe.data.catalog import DataError
from loupe.data.text import check_split
from loupe.deprecation import renamed

_AT_ONCE = 1 << 20  # ids gathered before they are checked and written


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a corpus, with ids 0 to ``size - 1``.

    ``name`` is that of the tokenizer, ``end`` the id after each document, ``end_piece`` its text.
    """

    name: str
    size: int
    end: int
    end_piece: str


BERT = Vocabulary("bert-base-uncased", 30_522, 102, "[SEP]")
GPT2 = Vocabulary("gpt2", 50_257, 50_256, "<|endoftext|>")


@dataclass(frozen=True, eq=False)
class PackedText:
    """One part of a corpus in blocks of token ids.

    Attributes
    ----------
    ids : numpy.memmap
        uint16 ``(blocks, length)``, read-only; a row is read from the disk when it is used.
    vocabulary : Vocabulary
        What the ids stand for.
    name, split : str
        The set and its part.
    """

    ids: np.ndarray
    vocabulary: Vocabulary
    name: str
    split: str


class BlockWriter:
    """A file of blocks that appears when the ``with`` statement succeeds, and not at all otherwise.

    The arguments and errors are those of :func:`write_blocks`; ``blocks`` counts the blocks written so far.
    """

    def __init__(self, path, *, length, end, vocabulary, dtype=np.uint16):
        dtype = np.dtype(dtype).newbyteorder("<")
        if length < 1:
            raise ValueError(f"a block must have at least 1 id, got length={length}")
        if dtype.kind != "u" or not 1 <= vocabulary <= np.iinfo(dtype).max + 1:
            raise ValueError(
                f"{dtype.name} cannot hold ids of a vocabulary of {vocabulary}: choose a larger unsigned type"
            )
        if end is not None and not 0 <= end < vocabulary:
            raise ValueError(
                f"end={end} is outside the vocabulary: choose an id in [0, {vocabulary}) or None"
            )
        self.path, self.length, self.vocabulary, self.dtype = Path(path), length, vocabulary, dtype
        self.blocks = 0
        self._end = [] if end is None else [np.array([end], np.int64)]
        self._waiting, self._count, self._documents = [], 0, 0

    def __enter__(self):
        handle, name = tempfile.mkstemp(prefix=self.path.name, suffix=".part", dir=self.path.parent)
        self._temporary, self._stream = Path(name), os.fdopen(handle, "wb")
        self._write_header()
        return self

    def add(self, document):
        """Add one document (a sequence of int, possibly empty) and the end id."""
        ids = np.asarray(document)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise DataError(
                f"Document {self._documents} has shape {ids.shape} and type {ids.dtype}: give a row of ids."
            )
        self._documents += 1
        # int64 only for empty sequences without a type: small types stay small.
        self._waiting += [ids if ids.size else ids.astype(np.int64), *self._end]
        self._count += ids.size + len(self._end)
        if self._count >= _AT_ONCE:
            self._flush()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._flush()
                if not self.blocks:
                    raise DataError(
                        f"{self._documents} documents with {self._count} ids do not fill one block of "
                        f"{self.length}: give more text or shorter blocks."
                    )
                self._stream.seek(0)
                self._write_header()
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._temporary.replace(self.path)
        finally:
            self._stream.close()
            self._temporary.unlink(missing_ok=True)

    def _write_header(self):
        # The format pads the header so that the number of blocks can grow in place.
        fields = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.blocks, self.length)}
        np.lib.format.write_array_header_1_0(self._stream, fields)

    def _flush(self):
        """Check the buffer and write its full blocks; keep the rest."""
        if not self._count:
            return
        ids = np.concatenate(self._waiting)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.vocabulary):
            raise DataError(
                f"The ids of the documents up to number {self._documents} go from {ids.min()} to "
                f"{ids.max()}: only [0, {self.vocabulary}) are in the vocabulary."
            )
        full = len(ids) // self.length
        self._stream.write(ids[: full * self.length].astype(self.dtype).tobytes())
        self.blocks += full
        # The rest is checked; a copy frees the written ids.
        self._waiting = [ids[full * self.length :].astype(self.dtype)]
        self._count = len(self._waiting[0])


def write_blocks(documents, path, *, length, end, vocabulary, dtype=np.uint16):
    """Pack documents one after another, cut them into blocks and write these to a file.

    The documents need not fit in memory. The remainder that does not fill a block is dropped. The file is written
    atomically; a process that is killed leaves at most a ``.part`` file beside it, which may be deleted.

    Parameters
    ----------
    documents : iterable of sequence of int
        Ids of each document.
    path : str or pathlib.Path
        The ``.npy`` file, which becomes an array ``(blocks, length)``; its folder must exist.
    length, vocabulary : int
        Ids in a block; ids must lie in ``[0, vocabulary)``.
    end : int or None
        Id put after each document; None puts none.
    dtype : numpy unsigned integer type
        Type of the file; uint16 holds vocabularies up to 65,536.

    Returns
    -------
    int
        Number of blocks.

    Raises
    ------
    ValueError
        If length is below 1, or dtype cannot hold the vocabulary, or end is outside it.
    DataError
        If an id is outside the vocabulary, or the documents do not fill one block.

    Examples
    --------
    >>> write_blocks([[1, 2, 3], [4, 5]], "/tmp/blocks.npy", length=3, end=0, vocabulary=10)  # doctest: +SKIP
    2
    """
    with BlockWriter(path, length=length, end=end, vocabulary=vocabulary, dtype=dtype) as writer:
        for document in documents:
            writer.add(document)
    return writer.blocks


def open_blocks(path, *, length=None):
    """Map a file of :func:`write_blocks` into memory, without reading it.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    length : int, optional
        Expected block length.

    Returns
    -------
    numpy.memmap
        ``(blocks, length)``, unsigned integers, read-only.

    Raises
    ------
    DataError
        If there is no such file, it is not a complete file of blocks, or blocks have another length.
    """
    again = "write it again with loupe.data.token_blocks.write_blocks."
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {str(path)!r}: {again}") from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"The file {path} cannot be read as blocks of ids ({error}): {again}") from error
    if not isinstance(found, np.memmap):
        found.close()
        raise DataError(f"The file {path} holds several arrays, not blocks of ids: {again}")
    if found.ndim != 2 or found.dtype.kind != "u" or not found.size or not found.flags.c_contiguous:
        raise DataError(
            f"The file {path} holds {found.dtype} of shape {found.shape}, not blocks of ids: {again}"
        )
    if length is not None and found.shape[1] != length:
        raise DataError(f"The blocks of {path} have {found.shape[1]} ids instead of {length}: {again}")
    return found


def blocks(ids, length):
    """Cut ids into blocks that do not overlap, without copying; the remainder is dropped.

    Parameters
    ----------
    ids : numpy.ndarray
        Integers ``(n,)``, which may be mapped from a file.
    length : int
        Ids in a block.

    Returns
    -------
    numpy.ndarray
        View ``(n // length, length)``.

    Raises
    ------
    DataError
        If there are fewer ids than one block, or not one axis.
    """
    _check_text(ids, length, "block")
    count = len(ids) // length
    return ids[: count * length].reshape(count, length)


def spread_blocks(ids, length, count):
    """At most ``count`` blocks from all over a text, evenly spaced.

    Parameters
    ----------
    ids : numpy.ndarray
        Integers ``(n,)``, or blocks ``(n, length)`` themselves.
    length, count : int

    Returns
    -------
    numpy.ndarray of int64, shape (k, length)

    Raises
    ------
    DataError
        As :func:`blocks` does.
    """
    rows = ids if ids.ndim == 2 else blocks(ids, length)
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return rows[chosen].astype(np.int64)


class _ByStep:
    """Batches of rows of ids that are a function of the seed and the step."""

    def __init__(self, size, seed):
        if size < 1:
            raise ValueError(f"a batch must have at least 1 sample, got {size}")
        if seed < 0:
            raise ValueError(f"a seed must be at least 0, got {seed}")
        self.size, self.seed = size, seed

    @renamed(part="shard", parts="shards")
    def __call__(self, step, shard=0, shards=1):
        """One of ``shards`` equal shards of a step's batch: a list of one tensor, int64 ``(size / shards, length)``.

        ValueError if the batch cannot be divided like that.
        """
        import torch  # imported here: nothing else in this package needs it, and it takes seconds

        if shards < 1 or self.size % shards:
            raise ValueError(
                f"a batch of {self.size} cannot be split in {shards} equal shards: choose a multiple of {shards}"
            )
        if not 0 <= shard < shards:
            raise ValueError(f"there is no shard {shard} of {shards}: choose 0 to {shards - 1}")
        count = self.size // shards
        return [torch.from_numpy(self._rows(step, shard * count, count).astype(np.int64))]


class Crops(_ByStep):
    """Random pieces of a long text as a function of the step.

    Each piece starts at a uniformly random position, drawn with replacement.

    Parameters
    ----------
    ids : numpy.ndarray
        Integers ``(n,)``, which may be mapped from a file: only the pieces are read.
    length : int
        Ids in a piece.
    size, seed : int
        Pieces in a batch, over all processes, at least 1; and the seed, at least 0.

    Raises
    ------
    ValueError, DataError
        If a number is too small, or the text is shorter than a piece, or has not one axis.

    Examples
    --------
    >>> crops = Crops(np.arange(100, dtype=np.uint8), length=4, size=6)
    >>> [tuple(piece.shape) for piece in crops(0, shard=1, shards=2)]
    [(3, 4)]
    """

    def __init__(self, ids, *, length, size, seed=0):
        _check_text(ids, length, "crop")
        super().__init__(size, seed)
        self.ids, self.length = ids, length
        self._windows = np.lib.stride_tricks.sliding_window_view(ids, length)

    def _rows(self, step, first, count):
        # Every process draws all positions: a shard's samples must not depend on the number of shards.
        starts = np.random.default_rng([self.seed, step]).integers(len(self._windows), size=self.size)
        return self._windows[starts[first : first + count]]


class BlockBatches(_ByStep):
    """Blocks as a function of the step, each once in every epoch.

    The blocks form an endless sequence, one seeded permutation after another, and each step takes the next `size`. Only
    the latest permutation is cached.

    Parameters
    ----------
    rows : numpy.ndarray
        Integers ``(n, length)``, which may be mapped from a file: only the rows of a batch are read.
    size, seed : int
        Blocks in a batch, over all processes, at least 1; and the seed, at least 0.
    shuffle : bool
        False keeps the blocks in order in every epoch.

    Raises
    ------
    ValueError, DataError
        If a number is too small, or there is no block, or there are not two axes.

    Examples
    --------
    >>> batches = BlockBatches(np.arange(6).reshape(3, 2), size=2, shuffle=False)
    >>> [batches(step)[0].tolist() for step in range(2)]
    [[[0, 1], [2, 3]], [[4, 5], [0, 1]]]
    """

    def __init__(self, rows, *, size, seed=0, shuffle=True):
        if np.ndim(rows) != 2 or not np.size(rows):
            raise DataError(f"Batches need blocks of shape (n, length), got {np.shape(rows)}: see blocks().")
        super().__init__(size, seed)
        self.rows, self.shuffle = rows, shuffle
        self._turn, self._order = -1, None

    def __len__(self):
        return len(self.rows)  # the blocks of one epoch

    def _rows(self, step, first, count):
        start = step * self.size + first
        return self.rows[self.places(start, start + count)]

    def places(self, start, stop):
        """Block indices at positions `start` to `stop` of the endless sequence: int64 ``(stop - start,)``."""
        n, found = len(self), []
        while start < stop:
            turn, first = divmod(start, n)
            taken = min(stop - start, n - first)
            found.append(self._pass(turn)[first : first + taken])
            start += taken
        return np.concatenate(found)

    def _pass(self, turn):
        if not self.shuffle:
            return np.arange(len(self))
        if turn != self._turn:
            self._turn, self._order = turn, np.random.default_rng([self.seed, turn]).permutation(len(self))
        return self._order


def _check_text(ids, length, piece):
    if length < 1:
        raise ValueError(f"a {piece} must have at least 1 id, got length={length}")
    if np.ndim(ids) != 1 or len(ids) < length:
        raise DataError(
            f"A text of shape {np.shape(ids)} has no {piece} of {length} ids: give a longer text of one "
            f"axis, or a smaller length."
        )


def _packed(source, split, splits, vocabulary, length):
    check_split(source.entry.name, split, splits)
    ids = open_blocks(source.path(f"_{split}.npy"), length=length)
    return PackedText(ids, vocabulary, source.entry.name, split)


def lm1b(source, split="train"):
    """One Billion Words in blocks of 128 word pieces, train or test part, as :class:`PackedText`."""
    return _packed(source, split, ("train", "test"), BERT, 128)


def openwebtext(source, split="train"):
    """OpenWebText in blocks of 1,024 byte pairs, train or valid part, as :class:`PackedText`."""
    return _packed(source, split, ("train", "valid"), GPT2, 1024)


def lambada(source, split="test"):
    """LAMBADA in blocks of 1,024 byte pairs, for evaluation only, as :class:`PackedText`."""
    return _packed(source, split, ("test",), GPT2, 1024)
