"""Results are written whole or not at all, found by what the experiment read, and never trusted when damaged."""

import errno
import json
import os

import numpy as np
import pytest
from toy import ROOM

from loupe.errors import LoupeError
from loupe.experiment import store as store_module
from loupe.experiment.folders import StoreError
from loupe.experiment.store import Store
from loupe.experiment.units import units_of


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def unit_of(preset="cpu", overrides=None, experiment="walk", seed=0):
    (unit,) = units_of(ROOM, preset, overrides, experiment=experiment, seed=seed)
    return unit


def write(store, unit, values=None, settings=None):
    settings = {"steps": unit.config.steps} if settings is None else settings
    return store.write(unit, values or {"path": np.arange(5.0), "end": 1.5}, settings=settings, provenance={})


def test_what_is_written_is_found(store):
    values = {"path": np.arange(6).reshape(2, 3), "end": np.float64(2.5), "n": 3, "word": "yes", "gap": float("nan"),
              "far": -np.inf, "flag": True, "text": "inf"}  # fmt: skip
    write(store, unit_of(), values)
    result = store.find(unit_of())
    assert list(result["path"][1]) == [3, 4, 5]
    assert result["text"] == "inf"
    assert (result["end"], result["n"], result["word"], result["flag"]) == (2.5, 3, "yes", True)
    assert np.isnan(result["gap"])
    assert result["far"] == -np.inf
    assert set(result) == set(values)
    with pytest.raises(LoupeError, match=r"holds no 'x', only .* --recompute"):
        result["x"]


def test_where_results_belong(store, tmp_path):
    assert store.path(unit_of()) == tmp_path / "results/cpu/ph_dimension/walk-s0.json"
    for scratch in (unit_of(preset="smoke"), unit_of(seed=7), unit_of(overrides={"steps": 11})):
        assert store.path(scratch).is_relative_to(tmp_path / "scratch")
    assert store.path(unit_of(overrides={"steps": 10})) == store.path(unit_of())  # no change is no override


def test_another_configuration_is_not_found(store):
    write(store, unit_of())
    assert store.find(unit_of(overrides={"steps": 11})) is None
    assert store.find(unit_of(seed=1)) is None


def test_an_override_that_the_experiment_does_not_read_keeps_its_result(store):
    write(store, unit_of())
    assert store.find(unit_of(overrides={"scale": 3.0})) is not None


def test_a_setting_that_is_gone_today_makes_a_result_old(store):
    write(store, unit_of(), settings={"steps": 10, "gone": 1})
    assert store.find(unit_of()) is None


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("damage", ["half", "empty", "garbage"])
def test_a_damaged_file_is_one_sentence(store, suffix, damage):
    path = write(store, unit_of()).with_suffix(suffix)
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "garbage": b"\x00" * 50}[damage])
    with pytest.raises(StoreError) as caught:
        store.find(unit_of()).check()
    message = str(caught.value)
    assert path.name in message
    assert "loupe compute ph_dimension --preset cpu" in message
    assert "\n" not in message


def test_a_lost_npz_is_damage_and_a_lost_json_is_absence(store):
    path = write(store, unit_of())
    path.with_suffix(".npz").unlink()
    with pytest.raises(StoreError, match=r"walk-s0\.npz is damaged"):
        store.find(unit_of()).check()
    path.unlink()
    assert store.find(unit_of()) is None


def test_a_full_disk_loses_nothing(store, monkeypatch):
    write(store, unit_of(), {"end": 1.0})

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(StoreError, match=r"could not write .*No space left on device.*LOUPE_RESULTS"):
        write(store, unit_of(), {"end": 2.0})
    monkeypatch.undo()
    assert store.find(unit_of())["end"] == 1.0
    assert sorted(path.name for path in store.path(unit_of()).parent.iterdir()) == [
        "walk-s0.json",
        "walk-s0.npz",
    ]


def test_a_kill_between_the_moves_leaves_no_result_and_no_lie(store, monkeypatch):
    write(store, unit_of(), {"end": 1.0})
    moves = []

    class Killed(BaseException):
        pass

    def replace(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise Killed
        os.replace(self, target)

    monkeypatch.setattr(store_module.Path, "replace", replace)
    with pytest.raises(Killed):
        write(store, unit_of(), {"end": 2.0})
    monkeypatch.undo()
    assert store.find(unit_of()) is None
    write(store, unit_of(), {"end": 3.0})
    assert store.find(unit_of())["end"] == 3.0


def test_equal_results_are_equal_bytes(store):
    path = write(store, unit_of())
    before = (path.read_bytes(), path.with_suffix(".npz").read_bytes())
    write(store, unit_of())
    assert before == (path.read_bytes(), path.with_suffix(".npz").read_bytes())


def test_the_sidecar_is_strict_json(store):
    path = write(store, unit_of(), {"gap": float("inf")})
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_objects_are_refused(store):
    with pytest.raises(TypeError, match="return arrays, numbers, strings"):
        write(store, unit_of(), {"x": {"a": 1}})


def test_nothing_pickled_is_read(store):
    path = write(store, unit_of())
    np.savez(path.with_suffix(".npz"), path=np.array([{}], dtype=object))
    with pytest.raises(StoreError):
        store.find(unit_of()).check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "cup"}, "no preset is called 'cup': choose one of paper, cpu, smoke"),
        ({"preset": "cpu", "experiment": "wak"}, "no experiment 'wak': it has walk, ruler, late"),
    ],
)
def test_unknown_names(arguments, words):
    with pytest.raises(LoupeError, match=words):
        units_of(ROOM, **arguments)


def test_units_of_a_preset():
    names = [(unit.experiment, unit.seed) for unit in units_of(ROOM, "cpu")]
    assert names == [("walk", 0), ("walk", 1), ("walk", 2), ("ruler", 0), ("ruler", 1), ("ruler", 2)]
    assert all(unit.published for unit in units_of(ROOM, "cpu"))
    assert not any(unit.published for unit in units_of(ROOM, "smoke"))
    assert units_of(ROOM, "cpu", experiment="late", seed=3) == []
