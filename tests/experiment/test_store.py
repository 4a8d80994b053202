"""Results are written whole or not at all, found by what the experiment read, and never trusted when damaged."""

import errno
import hashlib
import io
import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from toy import ROOM

from loupe.errors import LoupeError
from loupe.experiment import folders
from loupe.experiment import store as store_module
from loupe.experiment.folders import StoreError, stamped
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


def npz_of(path):
    (npz,) = path.parent.glob(f"{path.stem}.*.npz")
    return npz


def refusal(store, unit=None):
    """The sentence with which a result is refused."""
    with pytest.raises(StoreError) as caught:
        store.find(unit or unit_of())
    message = str(caught.value)
    assert "loupe compute ph_dimension --preset cpu" in message
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("of", [lambda path: path, npz_of], ids=["json", "npz"])
@pytest.mark.parametrize("damage", ["half", "empty", "garbage", "flipped", "latin", "folder", "loop", "deep"])
def test_a_damaged_file_is_one_sentence(store, of, damage):
    path = of(write(store, unit_of()))
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "loop":
        path.symlink_to(path)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"half": whole[:middle], "empty": b"", "garbage": b"\x00" * 50, "flipped": flipped,
                          "latin": "\u00e9".encode("latin1") * 9, "deep": b"[" * 10**5}[damage])  # fmt: skip
    assert path.name in refusal(store)


@pytest.mark.parametrize("content", [[], None, 3, {}, {"sha256": "0"}, {"npz": 1}])
def test_other_json_is_one_sentence(store, content):
    write(store, unit_of()).write_text(json.dumps(content))
    assert "walk-s0.json is damaged" in refusal(store)


@pytest.mark.parametrize(
    "edit",
    [
        lambda sidecar: sidecar["numbers"].update(end=1.6),
        lambda sidecar: sidecar["settings"].clear(),
        lambda sidecar: sidecar.update(seed=1),
        lambda sidecar: sidecar["provenance"].update(commit="mine"),
        lambda sidecar: sidecar.pop("sha256"),
        lambda sidecar: sidecar["arrays"].clear(),
    ],
)
def test_an_edited_sidecar_is_refused(store, edit):
    path = write(store, unit_of())
    sidecar = json.loads(path.read_text())
    edit(sidecar)
    path.write_text(json.dumps(sidecar))
    assert "walk-s0.json is damaged" in refusal(store)


def test_arrays_changed_together_with_their_digest_are_refused(store):
    path = write(store, unit_of())
    other = np.arange(5.0) + 1
    np.savez_compressed(npz_of(path), path=other)
    sidecar = json.loads(path.read_text())
    digest = hashlib.sha256(npz_of(path).read_bytes()).hexdigest()
    path.write_text(json.dumps(sidecar | {"npz_sha256": digest}))
    assert "walk-s0.json is damaged" in refusal(store)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"experiment": "ruler"}], ids=["another seed", "another experiment"]
)
def test_the_result_of_another_unit_is_refused(store, other):
    mine, theirs = write(store, unit_of()), write(store, unit_of(**other))
    mine.write_bytes(theirs.read_bytes())
    assert "it is the result of" in refusal(store)


def test_the_result_of_another_preset_or_chapter_is_refused(store, tmp_path):
    path = write(store, unit_of())
    copy = tmp_path / "results/gpu/ph_dimension"
    shutil.copytree(path.parent, copy)
    with pytest.raises(StoreError, match="walk seed 0, ph_dimension at cpu"):
        store.find(replace(unit_of(), preset="gpu"))


def test_a_lost_npz_is_damage_and_a_lost_json_is_absence(store):
    path = write(store, unit_of())
    npz_of(path).unlink()
    assert ".npz is gone" in refusal(store)
    path.unlink()
    assert store.find(unit_of()) is None


def test_what_may_not_be_read_says_so(store, monkeypatch):
    path = write(store, unit_of())

    def denied(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(store_module.Path, "read_bytes", denied)
    with pytest.raises(StoreError, match=r"walk-s0\.json cannot be read \(Permission denied\)"):
        store.find(unit_of())
    monkeypatch.setattr(store_module.Path, "iterdir", denied)
    with pytest.raises(StoreError, match="cannot be read"):
        store.sidecars("ph_dimension", "cpu")
    assert path.exists()


def test_a_reader_whose_arrays_are_replaced_reads_again(store, monkeypatch):
    write(store, unit_of(), {"path": np.zeros(3)})
    read_stamped = folders.read_stamped

    def overtaken(path, remedy):
        found = read_stamped(path, remedy)
        monkeypatch.undo()
        write(store, unit_of(), {"path": np.ones(3)})
        return found

    monkeypatch.setattr(folders, "read_stamped", overtaken)
    assert store.find(unit_of())["path"].sum() == 3


def test_arrays_that_would_fill_the_memory_are_refused(store):
    path = write(store, unit_of())
    bomb = io.BytesIO()
    np.savez_compressed(bomb, path=np.zeros(10**6))
    npz_of(path).write_bytes(bomb.getvalue())
    sidecar = json.loads(path.read_text()) | {"npz_sha256": hashlib.sha256(bomb.getvalue()).hexdigest()}
    path.write_bytes(stamped(sidecar))
    with pytest.raises(StoreError, match="would unpack to 8000128 bytes"):
        store.find(unit_of())["path"]


def test_a_result_without_values_is_a_result(store):
    store.write(unit_of(), {}, settings={}, provenance={})
    assert store.find(unit_of())


def test_a_full_disk_loses_nothing(store, monkeypatch):
    write(store, unit_of(), {"end": 1.0})

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(StoreError, match=r"could not write .*No space left on device.*LOUPE_RESULTS"):
        write(store, unit_of(), {"end": 2.0})
    monkeypatch.undo()
    assert store.find(unit_of())["end"] == 1.0
    assert len(list(store.path(unit_of()).parent.iterdir())) == 2


@pytest.mark.parametrize("moves", [1, 2, 3])
def test_a_kill_between_the_moves_leaves_the_old_result_or_the_new(store, monkeypatch, moves):
    path = write(store, unit_of(), {"end": 1.0, "path": np.zeros(3)})
    done = []

    class Killed(BaseException):
        pass

    def replace(self, target):
        done.append(target)
        if len(done) == moves:
            raise Killed
        os.replace(self, target)

    monkeypatch.setattr(store_module.Path, "replace", replace)
    # Nothing is tidied up.
    monkeypatch.setattr(store_module.Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(Killed) if moves < 3 else nullcontext():
        write(store, unit_of(), {"end": 2.0, "path": np.ones(3)})
    monkeypatch.undo()
    assert store.find(unit_of())["end"] == (1.0 if moves < 3 else 2.0)
    assert store.find(unit_of())["path"].sum() == (0 if moves < 3 else 3)
    for draft in path.parent.glob(".*"):
        os.utime(draft, (1, 1))
    write(store, unit_of(), {"end": 3.0})
    assert store.find(unit_of())["end"] == 3.0
    assert sorted(path.parent.iterdir()) == sorted([path, npz_of(path)])


def test_equal_results_are_equal_bytes(store):
    path = write(store, unit_of())
    before = (path.read_bytes(), npz_of(path).read_bytes())
    write(store, unit_of())
    assert before == (path.read_bytes(), npz_of(path).read_bytes())


def test_files_follow_the_umask(store):
    before = os.umask(0o077)
    try:
        path = write(store, unit_of())
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (path, npz_of(path))} == {0o600}


def test_the_sidecar_is_strict_json(store):
    path = write(store, unit_of(), {"gap": float("inf")})
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_objects_are_refused(store):
    with pytest.raises(TypeError, match="return arrays, numbers, strings"):
        write(store, unit_of(), {"x": {"a": 1}})


def test_nothing_pickled_is_read(store):
    path = write(store, unit_of())
    npz = npz_of(path)
    np.savez(npz, path=np.array([{}], dtype=object))
    sidecar = json.loads(path.read_text()) | {"npz_sha256": hashlib.sha256(npz.read_bytes()).hexdigest()}
    path.write_bytes(stamped(sidecar))
    with pytest.raises(StoreError, match="allow_pickle"):
        store.find(unit_of())["path"]


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
