"""What is out of date follows from contents, and marks change when, and only when, results do."""

import json
import os

import pytest
from toy import ROOM

from loupe.experiment import provenance
from loupe.experiment.store import Store
from loupe.experiment.units import units_of
from loupe.publishing import reproduce
from loupe.publishing.reproduce import mark_file, marks_folder, mirror, sources_digest, write_mark

COST = {"seconds": 2.0, "cpu_seconds": 1.5, "peak_memory_mb": 80}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


@pytest.fixture
def units():
    return units_of(ROOM, "cpu", experiment="walk")


def write(store, unit, code=True, data=None):
    # Of a toy, which is in no module of the package.
    today = provenance.code_digests("ph_dimension", "walk", ())
    values = ROOM.walk(unit.config, seed=unit.seed, device="cpu")
    made_by = COST | {"code": today if code else today | {"loupe.errors": "0" * 16}, "data": data or {}}
    return store.write(unit, values, settings={"steps": unit.config.steps}, provenance=made_by)


def test_each_way_of_being_out_of_date(store, units):
    current, other, damaged = units
    write(store, current)
    write(store, other, code=False)
    (npz,) = write(store, damaged).parent.glob(f"walk-s{damaged.seed}.*.npz")
    npz.write_bytes(npz.read_bytes()[:-1])
    assert mirror(units, store) == {other: "other code", damaged: "damaged"}
    store.write(current, {}, settings={"steps": 99}, provenance={})
    assert mirror(units, store)[current] == "missing"
    write(store, current, data={"mnist/mnist.npz": "0" * 64, "mine/own.npz": "1" * 64})
    assert mirror(units, store)[current] == "other data"
    write(store, current, data={"mine/own.npz": "1" * 64})
    assert current not in mirror(units, store)
    assert mirror(units_of(ROOM, "smoke"), store).keys() == set(units_of(ROOM, "smoke"))


def test_marks_say_how_units_stand(store, units, monkeypatch):
    marks = [mark_file(marks_folder(store), unit) for unit in units]
    for unit in units[:2]:
        write(store, unit)
    assert list(mirror(units, store)) == units[2:]
    assert [mark.exists() for mark in marks] == [True, True, False]
    for mark in marks[:2]:
        os.utime(mark, (1, 1))
    write(store, units[1]).touch()  # the same content at another time
    mirror(units, store)
    assert [mark.stat().st_mtime for mark in marks[:2]] == [1, 1]
    monkeypatch.setitem(COST, "seconds", 3.0)
    write(store, units[1])  # made elsewhere, and fetched
    write(store, units[0], code=False)
    assert mirror(units, store) == {units[0]: "other code", units[2]: "missing"}
    assert [mark.exists() for mark in marks] == [False, True, False]
    assert marks[1].stat().st_mtime > 1


def test_the_mark_of_a_job_is_the_one_that_is_looked_for(store, units):
    write(store, units[0])
    mark = mark_file(marks_folder(store), units[0])
    write_mark(mark, reproduce.identity(store.find(units[0])))
    os.utime(mark, (1, 1))
    mirror(units[:1], store)
    assert mark.stat().st_mtime == 1


def test_sources_are_the_package_without_other_papers_and_the_cells(tmp_path, monkeypatch):
    package = tmp_path / "lib/loupe"
    (package / "experiment").mkdir(parents=True)
    monkeypatch.setattr(reproduce, "__file__", str(package / "experiment/provenance.py"))
    monkeypatch.setattr(reproduce, "project_root", lambda: tmp_path)
    (tmp_path / "notebooks").mkdir()

    def digest(door="a", cell="b", output="c", **changed):
        names = ("experiment/store", "papers/mine/claims", "papers/other/claims", "papers/__init__")
        files = dict.fromkeys(names, "1")
        for name, text in (files | changed).items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        cells = [
            {"metadata": {"tags": ["parameters"]}, "source": door, "outputs": []},
            {"metadata": {}, "source": [cell], "outputs": [output]},
        ]
        (tmp_path / "notebooks/mine.ipynb").write_text(json.dumps({"cells": cells}))
        return sources_digest("mine")

    base = digest()
    assert base == digest(door="z", output="z", **{"papers/other/claims": "2"})
    assert base != digest(**{"papers/mine/claims": "2"})
    assert base != digest(**{"experiment/store": "2"})
    assert base != digest(cell="z")


def test_chapters_are_reported_and_the_book_is_asked_again(store, units):
    marks = marks_folder(store) / "cpu"
    for name in ("book.done", "ph_dimension/ledger.done", "ph_dimension/walk-s0.log"):
        write_mark(marks / name, "")
    write(store, units[0])
    lines = []
    reproduce.mirror_chapters({"ph_dimension": units}, "cpu", store, lines.append)
    assert lines == ["ph_dimension at cpu: 2 of 3 units are out of date (2 missing)"]
    left = sorted(path.name for path in marks.rglob("*") if path.is_file())
    assert left == ["sources", "walk-s0.done"]


def test_summary_counts_costs_and_judges(store, units):
    for unit in units[:2]:
        write(store, unit)
    rows = reproduce.summary(ROOM, "cpu", store)
    assert rows == [
        ("ph_dimension", "walk", "2/3", "4.0", "3.0", "80", ""),
        ("ph_dimension", "ruler", "0/3", "0.0", "0.0", "0", ""),
        ("ph_dimension", "all of it", "2/6", "4.0", "3.0", "80", "○ 2"),
    ]
    assert all(len(row) == len(reproduce.COST_HEAD) for row in rows)
    assert reproduce.summary(ROOM, "cpu", store, [1, 9])[-1][2:] == ("1/4", "2.0", "1.5", "80", "")
    store.path(units[0]).write_text("cut")
    assert reproduce.summary(ROOM, "cpu", store)[0][2] == "1/3"
