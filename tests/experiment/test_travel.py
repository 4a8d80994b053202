"""Results that travel: packed, added elsewhere, compared with their digests."""

import json
import zipfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from toy import ROOM

from loupe.experiment.folders import StoreError
from loupe.experiment.store import STORED, Store, import_results, pack_results
from loupe.experiment.units import units_of

UNITS = units_of(ROOM, "cpu", experiment="walk")


def write(store, unit, when, value=1.0):
    store.write(unit, {"path": np.arange(3.0), "end": value}, settings=unit.config.settings(["steps"]),
                provenance={"finished": when.isoformat(timespec="seconds")})  # fmt: skip


@pytest.fixture
def stores(tmp_path):
    return [Store(tmp_path / name, tmp_path / name / "scratch") for name in ("there", "here")]


NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def packed(stores, tmp_path):
    for k, unit in enumerate(UNITS):
        write(stores[0], unit, NOW + timedelta(hours=k))
    target = tmp_path / "new.zip"
    assert pack_results(stores[0], NOW + timedelta(hours=1), target) == 2  # the first was there before
    return target


def outcomes(store, source):
    return {result.seed: outcome for result, outcome in import_results(store, source)}


def test_what_is_new_is_added_once(stores, packed):
    there, here = stores
    assert outcomes(here, packed) == {1: "added", 2: "added"}
    assert here.find(UNITS[0]) is None
    assert here.find(UNITS[1]).sha256 == there.find(UNITS[1]).sha256
    np.testing.assert_array_equal(here.find(UNITS[1])["path"], [0, 1, 2])
    assert outcomes(here, packed) == {1: STORED, 2: STORED}
    assert outcomes(here, there.published) == {0: "added", 1: STORED, 2: STORED}


def test_the_later_one_stays(stores, packed):
    here = stores[1]
    write(here, UNITS[1], NOW, 5.0)
    write(here, UNITS[2], NOW + timedelta(days=1), 6.0)
    assert outcomes(here, packed) == {1: "replaced an older one", 2: "older than the one stored"}
    assert [here.find(unit)["end"] for unit in UNITS[1:]] == [1.0, 6.0]
    assert len(list(here.path(UNITS[1]).parent.glob("walk-s1.*.npz"))) == 1


SIDECAR = "cpu/ph_dimension/walk-s{}.json"


def edited(content):
    sidecar = json.loads(content)
    sidecar["numbers"]["end"] = 7.0
    return json.dumps(sidecar).encode()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda files: files | {SIDECAR.format(1): edited(files[SIDECAR.format(1)])}, "does not match"),
        (lambda files: {name: files[name] for name in files if "s1." not in name or name.endswith("json")}, "is gone"),
        (lambda files: files | {SIDECAR.format(1): files[SIDECAR.format(2)]}, "walk seed 2"),
        (lambda files: files | {"cpu/other/walk-s1.json": files[SIDECAR.format(1)]}, "is gone"),
    ],
)  # fmt: skip
def test_an_edit_a_loss_or_a_swap_is_refused(change, what, stores, packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in change(files).items():
            archive.writestr(name, content)
    with pytest.raises(StoreError, match=what):
        outcomes(stores[1], bad)
    assert not list(stores[1].published.rglob("walk-s1*"))


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 cut"])
def test_what_is_no_package_is_one_sentence(content, stores, tmp_path):
    source = tmp_path / "bad.zip"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(StoreError, match=r"bad.zip holds no packed results \(.*\): pack them again\."):
        outcomes(stores[1], source)


def test_names_that_lead_outside_stay_inside(stores, packed, tmp_path):
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../../outside-s1.json", b"{}")
    outcomes(stores[1], packed)
    assert not (tmp_path.parent / "outside-s1.json").exists()
