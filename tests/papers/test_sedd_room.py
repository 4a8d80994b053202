"""The glue of the chapter: how networks are trained and judged, at any scale, and what its settings refuse."""

import inspect
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loupe.diffusion import discrete
from loupe.diffusion.discrete.methods import NAMED
from loupe.errors import LoupeError
from loupe.experiment.units import experiments_of
from loupe.papers import sedd as room
from loupe.papers.sedd import PRESETS, experiments_networks

TINY = PRESETS["smoke"].override({
    "training": {"steps": 6, "evaluations": 2}, "width": 16, "heads": 2, "blocks": 1, "length": 16, "infill": 4,
    "characters": 20_000, "judge_characters": 20_000, "sample_steps": [2, 3], "orders": 1,
})  # fmt: skip
SMALL = TINY.override({
    "oracle_sequences": 100, "oracle_steps": [2, 4, 16], "sequences": 20, "curve_sequences": 4, "long_seeds": [0],
    "long_steps": 8,
})  # fmt: skip
EXPERIMENTS = experiments_of(room)
LOG27 = np.log2(27)
METHODS = (*NAMED, "D3PM", "autoregressive")


@pytest.fixture
def trained(tmp_path):
    def train(name, config=TINY, seed=0, folder="run", **options):
        work = tmp_path / folder / f"{name} {seed}"
        work.mkdir(parents=True, exist_ok=True)
        return experiments_networks.train_method(config, name, seed, "cpu", work, **options)

    return train


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """What every experiment gives at a tiny size, each from what those before it gave."""
    found = {}
    for name in sorted(EXPERIMENTS, key=lambda name: (len(EXPERIMENTS[name].after), name == "judged")):
        wants = inspect.signature(EXPERIMENTS[name]).parameters
        given = {"work": tmp_path_factory.mktemp(name), "earlier": found}
        given = {one: given[one] for one in given if one in wants}
        found[name] = EXPERIMENTS[name](SMALL, seed=0, device="cpu", **given)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_is_judged_on_all_texts(trained, name):
    result = trained(name)
    assert result["method"] == name
    assert len(result["loss"]) == TINY.training.steps
    assert list(result["curve_steps"]) == [1, 6]
    assert list(result["texts"]) == ["valid"]
    for key in ("bits_valid", "strict_valid"):
        assert result[key].shape == (TINY.sequences,)
        assert np.isfinite(result[key]).all()
    assert (result["strict_valid"] >= result["bits_valid"] - 1e-12).all()


def test_each_experiment_trains_its_method(stored):
    assert all(experiment.__name__ == name for name, experiment in EXPERIMENTS.items())
    assert {name: found["method"] for name, found in stored.items() if "method" in found and "loss" in found} == {
        "sedd_absorb": "SEDD absorb", "sedd_uniform": "SEDD uniform", "autoregressive": "autoregressive", "d3pm": "D3PM",
        "mdlm": "MDLM", "judge": "autoregressive", "time_free": "time-free", "constant_noise": "constant noise",
        "concrete_score": "concrete score", "long_absorb": "SEDD absorb", "long_autoregressive": "autoregressive",
    }  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_gives_finite_numbers(experiment, stored):
    """All but those of Euler's steps that are too long."""
    rows = {name: np.asarray(each) for name, each in stored[experiment].items()}
    assert {
        name for name, each in rows.items() if each.dtype.kind == "f" and not np.isfinite(each).all()
    } <= {"euler", "bits", "bits_error", "distances"}


@pytest.mark.parametrize("name", METHODS)
def test_a_stored_network_gives_the_bits_that_are_stored_with_it(trained, name):
    result = trained(name)
    again = room.network(result, TINY)
    x0 = experiments_networks.held_out_texts(TINY)["valid"]
    draws = torch.Generator().manual_seed(0)
    options = {"times": TINY.times, "batch": TINY.sample_batch, "generator": draws}
    with torch.no_grad():
        method, _ = experiments_networks.new_model(TINY, name, 27)
        nats = method.bound(again, x0, **options)[1]
    bits = nats * experiments_networks.BITS / TINY.length
    assert np.array_equal(bits.double().numpy(), result["strict_valid"])
    assert result["weights"].dtype == np.float16


def test_weights_are_stored_at_the_seeds_that_write(trained):
    assert "weights" not in trained("SEDD absorb", TINY.override({"sample_seeds": []}))


def test_judges_learn_from_text_that_no_other_network_sees():
    ours, theirs = (experiments_networks.characters(TINY, part) for part in ("writers", "judges"))
    whole = experiments_networks.load(TINY.text, split="train").ids
    assert np.array_equal(ours, whole[: TINY.characters])
    assert np.array_equal(theirs, whole[TINY.characters :][: TINY.judge_characters])
    assert len(ours) == TINY.characters
    assert len(theirs) > 0


def test_longer_runs_take_more_steps(stored):
    steps = {name: found["steps"] for name, found in stored.items() if "loss" in found}
    assert {name for name, count in steps.items() if count == SMALL.long_steps} == {
        "long_absorb",
        "long_autoregressive",
    }
    assert {*steps.values()} == {SMALL.long_steps, SMALL.training.steps}


def test_an_interrupted_run_goes_on_to_the_same(trained, monkeypatch):
    straight, measure = trained("SEDD absorb", seed=0), discrete.normalization_excess
    with monkeypatch.context() as patch:
        patch.setattr(
            discrete,
            "normalization_excess",
            lambda *each: signal.raise_signal(signal.SIGINT) or measure(*each),
        )
        with pytest.raises(KeyboardInterrupt):
            trained("SEDD absorb", seed=0, folder="again")
    again = trained("SEDD absorb", seed=0, folder="again")
    for key in ("weights", "loss", "curve_bits", "curve_steps"):
        assert np.array_equal(again[key], straight[key])


@pytest.mark.parametrize("name", ["SEDD absorb", "MDLM", "time-free", "autoregressive", "D3PM"])
def test_training_starts_at_equally_likely_tokens(trained, name):
    first = trained(name, TINY.override({"training.batch": 256}))["loss"][0]
    # D3PM spends one of 28 equal parts on the mask.
    assert first == pytest.approx(np.log2(28) if name in ("D3PM", "autoregressive") else LOG27, abs=0.25)


def test_the_same_seed_gives_the_same_numbers_and_another_others(trained):
    one, two = (trained("SEDD uniform", folder=folder)["bits_valid"] for folder in ("one", "two"))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, trained("SEDD uniform", seed=1)["bits_valid"])


def test_held_out_sequences_come_from_all_over_the_text():
    found = experiments_networks.held_out_texts(TINY)["valid"]
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
from loupe.papers.sedd import PRESETS, experiments_networks as room

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
    "curve_sequences": 4, "curve_times": 2, "sequences": 20, "times": 2, "infill": 4, "sample_seeds": [], "training": {
        "steps": 12, "batch": 16, "accumulate": accumulate, "learning_rate": 1e-2, "warmup": 2, "ema": 0.9,
        "evaluations": 2, "precision": "32-true", "compile": False,
    },
})
found = room.train_method(config, "SEDD absorb", 0, "cpu", work)
if rank == 0:
    np.savez(work / "found.npz", loss=found["loss"], bits=found["bits_valid"])
"""
