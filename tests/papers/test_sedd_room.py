"""The glue of the chapter: how networks are trained and judged, at any scale, and what its settings refuse."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loupe import open_chapter
from loupe.errors import LoupeError
from loupe.papers import sedd as room
from loupe.papers.sedd import PRESETS, experiments_text
from loupe.papers.sedd.experiments_text import METHODS

TINY = PRESETS["smoke"].override(
    {
        "training": {"steps": 6, "evaluations": 2},
        "width": 16,
        "heads": 2,
        "blocks": 1,
        "length": 16,
        "infill": 4,
    }
)
SMALL = TINY.override(
    {
        "oracle_sequences": 100, "oracle_steps": [2, 4, 16], "characters": 20_000, "judge_characters": 20_000,
        "sequences": 20, "curve_sequences": 4, "sample_steps": [2, 3, 4], "orders": 1,
    }
)  # fmt: skip
EXPERIMENTS = [name for name in room.__all__ if name.islower()]
LOG27 = np.log2(27)


@pytest.fixture
def trained(tmp_path):
    return lambda name, config=TINY, seed=0: experiments_text._train(
        config, name, seed, "cpu", tmp_path / name
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_is_judged_on_all_texts(trained, name):
    result = trained(name).result
    assert result["method"] == name
    assert len(result["loss"]) == TINY.training.steps
    assert list(result["curve_steps"]) == [3, 6]
    assert list(result["texts"]) == ["valid"]
    for key in ("bits_valid", "strict_valid"):
        assert result[key].shape == (TINY.sequences,)
        assert np.isfinite(result[key]).all()
    assert (result["strict_valid"] >= result["bits_valid"] - 1e-12).all()


def kinds(names):
    """Names without their numbers, and those of all texts as one."""
    return {re.sub(r"\d+ ", "n ", re.sub("^(bits|strict)_.*", r"\1", name)) for name in names}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_gives_what_is_stored_of_it(experiment, tmp_path):
    """At any scale, and all of it finite but for Euler's steps that are too long."""
    run = getattr(room, experiment)
    work = {"work": tmp_path} if "work" in inspect.signature(run).parameters else {}
    found, stored = run(SMALL, seed=0, device="cpu", **work), open_chapter("sedd", preset="cpu").stored
    assert kinds(found) == kinds(stored[experiment].first)
    rows = {name: np.asarray(each) for name, each in found.items() if np.asarray(each).dtype.kind == "f"}
    assert {name for name, each in rows.items() if not np.isfinite(each).all()} <= {
        "euler",
        "bits",
        "bits_error",
        "distances",
    }


@pytest.mark.parametrize("name", ["SEDD absorb", "MDLM", "time-free", "autoregressive", "D3PM"])
def test_training_starts_at_equally_likely_tokens(trained, name):
    first = trained(name, TINY.override({"training.batch": 256})).result["loss"][0]
    # D3PM spends one of 28 equal parts on the mask.
    assert first == pytest.approx(np.log2(28) if name in ("D3PM", "autoregressive") else LOG27, abs=0.25)


def test_the_same_seed_gives_the_same_numbers_and_another_others(trained, tmp_path):
    one, two = (
        experiments_text._train(TINY, "SEDD uniform", seed, "cpu", tmp_path / str(k)).result["bits_valid"]
        for k, seed in enumerate((0, 0))
    )
    other = experiments_text._train(TINY, "SEDD uniform", 1, "cpu", tmp_path / "2").result["bits_valid"]
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_methods_are_judged_on_the_same_sequences(trained):
    assert torch.equal(trained("SEDD absorb").held_out, trained("autoregressive").held_out)


def test_held_out_sequences_come_from_all_over_the_text():
    found = experiments_text.held_out_texts(TINY)["valid"]
    assert found.shape == (TINY.sequences, TINY.length)
    assert len({tuple(row.tolist()) for row in found}) == TINY.sequences


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 5}, "width must be a multiple of 2"),
        ({"infill": 32}, "infill must leave a token on each side"),
        ({"sample_seeds": [3]}, "sample_seeds must be among seeds"),
        ({"text": "text9"}, "text"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(LoupeError, match=message):
        PRESETS["smoke"].override(values)


def test_the_paper_preset_on_packed_tokens_is_the_same_in_two_processes(tmp_path):
    program = tmp_path / "two.py"
    program.write_text(TWO)
    losses = []
    for processes in (1, 2):
        target = tmp_path / str(processes)
        target.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
             str(program), str(target), str(4 // processes)],
            capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append(np.load(target / "found.npz"))
    for key in ("loss", "bits"):
        np.testing.assert_allclose(losses[0][key], losses[1][key], rtol=1e-4)
    assert losses[0]["loss"][-1] < losses[0]["loss"][0]


TWO = """
import os, sys
from pathlib import Path
import numpy as np
from loupe.data.token_blocks import PackedText, Vocabulary, open_blocks, write_blocks
from loupe.papers.sedd import PRESETS, experiments_text as room

work, accumulate = Path(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ["RANK"])
words = Vocabulary("tiny", 40, 39, "end")
random = np.random.default_rng(0)
path = work / f"blocks{rank}.npy"
documents = ([k % 39 for k in range(first, first + 30)] for first in random.integers(39, size=200))
write_blocks(documents, path, length=16, end=words.end, vocabulary=words.size)
room.load = lambda name, split: PackedText(open_blocks(path), words, name, split)
config = PRESETS["paper"].override({
    "text": "openwebtext", "zero_shot": [], "length": 16, "width": 16, "heads": 2, "blocks": 1, "condition": 8,
    "curve_sequences": 4, "curve_times": 2, "sequences": 20, "times": 2, "infill": 4, "training": {
        "steps": 12, "batch": 16, "accumulate": accumulate, "learning_rate": 1e-2, "warmup": 2, "ema": 0.9,
        "evaluations": 2, "precision": "32-true", "compile": False,
    },
})
found = room._train(config, "SEDD absorb", 0, "cpu", work).result
if rank == 0:
    np.savez(work / "found.npz", loss=found["loss"], bits=found["bits_valid"])
"""
