"""Token blocks: packing, files that are whole or not there, and batches that are functions of the step."""

import signal
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import refused

from loupe.data import DataError, token_blocks
from loupe.data.text import encode
from loupe.data.token_blocks import (
    BlockBatches,
    BlockWriter,
    Crops,
    blocks,
    open_blocks,
    spread_blocks,
    write_blocks,
)
from loupe.training import Batches

DOCUMENTS = st.lists(st.lists(st.integers(0, 299), max_size=9), max_size=30)


@settings(deadline=None, max_examples=60)
@given(
    documents=DOCUMENTS,
    length=st.integers(1, 7),
    end=st.sampled_from([None, 0, 299]),
    at_once=st.sampled_from([1, 5, 1000]),
)
def test_packing_is_concatenation(tmp_path_factory, documents, length, end, at_once):
    path = tmp_path_factory.getbasetemp() / "packed.npy"
    path.unlink(missing_ok=True)
    row = [k for document in documents for k in [*document, *([] if end is None else [end])]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_blocks, "_AT_ONCE", at_once)
        if len(row) < length:
            with pytest.raises(DataError, match=f"with {len(row)} ids do not fill one block of {length}"):
                write_blocks(documents, path, length=length, end=end, vocabulary=300)
            assert not path.exists()
            return
        count = write_blocks(iter(documents), path, length=length, end=end, vocabulary=300)
    found = open_blocks(path, length=length)
    assert found.dtype == np.uint16
    assert found.shape == (count, length) == (len(row) // length, length)
    assert found.ravel().tolist() == row[: count * length]
    assert np.array_equal(np.load(path), found)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_any_integer_type_goes_in_and_the_chosen_one_comes_out(tmp_path, kind):
    documents = [np.array([1, 2], np.uint64), np.array([3], np.int8), [], (4, 5)]
    assert write_blocks(documents, tmp_path / "b.npy", length=2, end=9, vocabulary=10, dtype=kind) == 4
    found = open_blocks(tmp_path / "b.npy")
    assert found.tolist() == [[1, 2], [9, 3], [9, 9], [4, 5]]
    assert found.dtype == kind


def test_what_cannot_be_packed_is_refused_and_leaves_nothing(tmp_path):
    def write(documents, **options):
        write_blocks(documents, tmp_path / "b.npy", **{"length": 2, "end": 0, "vocabulary": 10} | options)

    refused(r"go from 0 to 10: only \[0, 10\) are in the vocabulary", write, [[1, 10]])
    refused("go from -1 to 3", write, [[3], [-1]])
    refused(r"Document 1 has shape .* and type float64", write, [[1], [0.5]])
    refused(r"shape \(1, 2\)", write, [[[1, 2]]])
    refused("0 documents with 0 ids do not fill one block of 2", write, [])
    with pytest.raises(ValueError, match=r"uint8 cannot hold ids of a vocabulary of 257: choose a larger"):
        write([[1, 2]], dtype=np.uint8, vocabulary=257)
    refused("int32 cannot hold", write, [[1, 2]], dtype=np.int32, error=ValueError)
    refused("end=10 is outside the vocabulary", write, [[1, 2]], end=10, error=ValueError)
    refused("at least 1 id, got length=0", write, [[1, 2]], length=0, error=ValueError)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_stopped_leaves_the_old_file(tmp_path):
    def stopped():
        yield from [[1, 2, 3]] * 5
        raise KeyboardInterrupt

    path = tmp_path / "b.npy"
    write_blocks([[7, 7]], path, length=2, end=None, vocabulary=8)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_blocks(stopped(), path, length=2, end=None, vocabulary=8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_killed_leaves_nothing_that_could_be_taken_for_the_file(tmp_path):
    code = (
        "import sys, itertools\n"
        "from loupe.data.token_blocks import write_blocks\n"
        "def endless():\n"
        "    for k in itertools.count():\n"
        "        if k == 5000: print('under way', flush=True)\n"
        "        yield range(1000)\n"
        "write_blocks(endless(), sys.argv[1], length=64, end=0, vocabulary=1000)\n"
    )
    path = tmp_path / "b.npy"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"under way\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    assert left.stat().st_size > 1_000_000  # it did write before the end
    assert write_blocks([[1, 2]], path, length=3, end=0, vocabulary=3) == 1
    assert open_blocks(path).tolist() == [[1, 2, 0]]


@contextmanager
def peak_below(most):
    """The memory that Python takes meanwhile stays below so many bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_corpus_is_written_without_holding_it(tmp_path):
    document = np.arange(50_000, dtype=np.uint16)
    documents = (document for _ in range(800))  # 80 MB of ids, of which a few millions are held at once
    with peak_below(30e6):
        count = write_blocks(documents, tmp_path / "b.npy", length=100, end=None, vocabulary=50_000)
    assert count == 400_000


def test_a_file_is_mapped_and_only_its_rows_are_read(tmp_path):
    path, shape = tmp_path / "large.npy", (1 << 16, 1 << 16)
    with path.open("wb") as stream:  # 8.6 GB, nearly all of it a hole
        np.lib.format.write_array_header_1_0(stream, {"descr": "<u2", "fortran_order": False, "shape": shape})
        stream.truncate(stream.tell() + 2 * shape[0] * shape[1])
    with peak_below(20e6):
        found = open_blocks(path)
        assert isinstance(found, np.memmap)
        (batch,) = BlockBatches(found, size=4, seed=1)(30_000)
        (piece,) = Crops(found.reshape(-1), length=64, size=4)(0)
    assert (batch.shape, piece.shape) == ((4, 1 << 16), (4, 64))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


def test_files_that_hold_no_blocks(tmp_path):
    path = tmp_path / "b.npy"
    refused(r"There is no file .*b.npy.*write_blocks", open_blocks, path)
    for array in (
        np.zeros(3, np.uint8),
        np.zeros((2, 2)),
        np.zeros((0, 2), np.uint8),
        np.asfortranarray(np.ones((2, 3), np.uint8)),
    ):
        np.save(path, array)
        refused("not blocks of ids", open_blocks, path)
    write_blocks([range(100)], path, length=10, end=None, vocabulary=100)
    refused("have 10 ids instead of 128", open_blocks, path, length=128)
    path.write_bytes(path.read_bytes()[:-50])
    refused("cannot be read as blocks of ids", open_blocks, path)
    path.write_bytes(b"")
    refused("cannot be read as blocks of ids", open_blocks, path)
    with path.open("wb") as stream:
        np.savez(stream, a=np.ones(2))
    refused("holds several arrays", open_blocks, path)


def test_blocks_are_a_view(tmp_path):
    ids = np.arange(11, dtype=np.uint8)
    found = blocks(ids, 3)
    assert found.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert np.shares_memory(found, ids)
    np.save(tmp_path / "ids.npy", ids)
    assert isinstance(blocks(np.load(tmp_path / "ids.npy", mmap_mode="r"), 4), np.memmap)
    for short in (ids[:2], ids[:0]):
        refused(r"has no block of 3 ids: give a longer text", blocks, short, 3)
    refused("one axis", blocks, found, 3)
    refused("length=0", blocks, ids, 0, error=ValueError)


def samples(kind, seed=0, size=12):
    if kind == "crops":
        return Crops(np.arange(200, dtype=np.uint8), length=8, size=size, seed=seed)
    return BlockBatches(np.arange(200, dtype=np.uint16).reshape(25, 8), size=size, seed=seed)


@pytest.mark.parametrize("kind", ["crops", "blocks"])
def test_batches_are_functions_of_seed_and_step(kind):
    one, other = samples(kind), samples(kind)
    steps = [5, 0, 7, 5, 1]
    drawn = {step: one(step)[0] for step in range(9)}
    for step in steps:
        (batch,) = other(step)
        assert batch.dtype == torch.int64
        assert batch.shape == (12, 8)
        assert torch.equal(batch, drawn[step])
        for parts in (1, 2, 3, 4, 12):
            pieces = [other(step, part, parts)[0] for part in range(parts)]
            assert {piece.shape for piece in pieces} == {(12 // parts, 8)}
            assert torch.equal(torch.cat(pieces), batch)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(samples(kind, seed=1)(0)[0], drawn[0])


@pytest.mark.parametrize("kind", ["crops", "blocks"])
def test_batches_that_cannot_be(kind):
    batches = samples(kind)
    refused(
        "a batch of 12 cannot be split in 5 equal shards: choose a multiple of 5",
        lambda: batches(0, 0, 5),
        error=ValueError,
    )
    refused("no shard 3 of 3: choose 0 to 2", batches, 0, 3, 3, error=ValueError)
    refused("at least 1 sample, got 0", samples, kind, size=0, error=ValueError)
    refused("seed must be at least 0, got -1", samples, kind, seed=-1, error=ValueError)


def test_the_same_sentence_as_in_training():
    batches = Batches(torch.arange(12), size=12)
    with pytest.raises(ValueError) as theirs:
        batches(0, 0, 5)
    with pytest.raises(ValueError) as ours:
        samples("crops")(0, 0, 5)
    assert str(ours.value) == str(theirs.value)


def test_crops_are_pieces_and_start_anywhere():
    crops = Crops(np.arange(10, dtype=np.uint8), length=8, size=300)
    (batch,) = crops(0)
    assert torch.equal(batch, batch[:, :1] + torch.arange(8))
    starts = torch.bincount(batch[:, 0])
    # Three places, each with probability 1/3: 100 of 300, give or take 8.2 (one standard deviation).
    assert len(starts) == 3
    assert ((starts - 100).abs() < 5 * 8.2).all()
    (whole,) = Crops(encode("abc"), length=3, size=2)(4)
    assert whole.tolist() == [[1, 2, 3]] * 2
    refused(r"A text of shape \(3,\) has no crop of 4 ids", Crops, encode("abc"), length=4, size=2)
    refused("no crop of 4 ids", Crops, encode(""), length=4, size=2)


def test_crops_keep_ids_that_one_byte_cannot_hold():
    (batch,) = Crops(np.array([50_256, 65_535], np.uint16), length=2, size=1)(0)
    assert batch.tolist() == [[50_256, 65_535]]


@pytest.mark.parametrize("size", [1, 4, 7, 10, 23])
def test_each_block_comes_once_in_every_pass(size):
    rows = np.arange(20, dtype=np.uint8).reshape(10, 2)
    batches = BlockBatches(rows, size=size, seed=3)
    assert len(batches) == 10
    row = torch.cat([batches(step)[0] for step in range(70 // size + 1)])[:70]
    passes = [part[:, 0].tolist() for part in row.split(10)]
    assert all(sorted(one) == list(range(0, 20, 2)) for one in passes)
    assert len({tuple(one) for one in passes}) == 7
    assert torch.equal(row[:, 1], row[:, 0] + 1)


def test_unshuffled_blocks_come_in_their_own_order():
    batches = BlockBatches(np.arange(6).reshape(3, 2), size=2, shuffle=False)
    assert [batches(step)[0][:, 0].tolist() for step in range(3)] == [[0, 2], [4, 0], [2, 4]]


def test_only_one_permutation_is_remembered(monkeypatch):
    made = []
    batches = BlockBatches(np.zeros((10, 1), np.uint8), size=5)
    generator = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or generator(seed))
    for step in (0, 1, 2, 3, 0):
        batches(step)
    assert made == [[0, 0], [0, 1], [0, 0]]
    assert len(batches._order) == 10


def test_what_is_no_array_of_blocks_is_refused():
    for array in (np.arange(4), np.zeros((0, 4)), np.zeros((4, 0))):
        refused(r"Batches need blocks of shape \(n, length\)", BlockBatches, array, size=1)


def test_importing_the_room_does_not_import_torch(tmp_path):
    code = "import sys, loupe.data.token_blocks, loupe.data.converters; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_writer_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(token_blocks, "_AT_ONCE", 10)
    with BlockWriter(tmp_path / "b.npy", length=4, end=0, vocabulary=10) as writer:
        writer.add(range(10))
        assert writer.blocks == 2
        assert not (tmp_path / "b.npy").exists()
    assert len(open_blocks(tmp_path / "b.npy")) == 2


def test_blocks_from_all_over_a_text():
    ids = np.arange(47, dtype=np.uint8)
    found = spread_blocks(ids, 5, 3)
    assert (found.dtype, found[:, 0].tolist()) == (np.int64, [0, 20, 40])
    assert np.array_equal(found, found[:, :1] + np.arange(5))
    assert np.array_equal(spread_blocks(blocks(ids, 5), 5, 3), found)
    assert np.array_equal(spread_blocks(ids, 5, 99), blocks(ids, 5))
    with pytest.raises(DataError):
        spread_blocks(ids, 48, 1)
