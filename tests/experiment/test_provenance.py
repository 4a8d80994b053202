"""What made a result: code, data, cost."""

import pytest

import loupe.data
from loupe.errors import LoupeError
from loupe.experiment import provenance
from loupe.experiment.closure import read_sources


@pytest.fixture
def _unfrozen(monkeypatch):
    monkeypatch.setattr(provenance, "_frozen", {})


@pytest.mark.usefixtures("_unfrozen")
def test_current_code_is_current():
    code = provenance.code_digests("ph_dimension", "known_dimensions", ())
    assert provenance.is_current(code)
    assert {"experiment", "loupe.topology.dimension", "loupe.topology.trees"} <= set(code)
    assert not provenance.is_current(code | {"loupe.topology.trees": "0" * 16})
    assert not provenance.is_current(code | {"loupe.gone": "0" * 16})
    assert not provenance.is_current(code | {"experiment": "ph_dimension:gone"})
    assert not provenance.is_current({"loupe.topology.trees": code["loupe.topology.trees"]})
    assert not provenance.is_current({})


@pytest.mark.usefixtures("_unfrozen")
def test_an_edit_during_a_unit_does_not_vouch_for_itself(monkeypatch):
    before = provenance.code_digests("ph_dimension", "known_dimensions", ())
    provenance.freeze_sources()
    edited = read_sources() | {"loupe.topology.trees": "def minimum_spanning_tree(): ...\n"}
    monkeypatch.setattr(provenance.closure, "read_sources", lambda: edited)
    assert provenance.code_digests("ph_dimension", "known_dimensions", ()) == before
    assert provenance.code_digests("ph_dimension", "known_dimensions", (), edited) != before


def test_the_files_that_were_read_are_known(tmp_path, monkeypatch):
    from loupe.data import places

    monkeypatch.setattr(places, "_read", {})
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind/a.txt").write_text("abc")
    places.note_read(tmp_path / "kind/a.txt")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.data_read() == {"kind/a.txt": sha256}


def test_cost_is_measured():
    cost = {}
    with provenance.measured(cost):
        sum(range(10**6))
    assert cost["seconds"] > 0
    assert cost["peak_memory_mb"] > 5


def test_commit_outside_a_checkout_is_unknown(tmp_path):
    assert provenance.commit(tmp_path) == "unknown"


def test_a_data_set_that_nothing_named_is_refused():
    with provenance.only_named_data({"experiment": "toy:walk", "data sets": "digits earth"}):
        loupe.data.load("digits")
    with (
        pytest.raises(LoupeError, match="toy:walk loaded the data set 'digits'"),
        provenance.only_named_data({"experiment": "toy:walk", "data sets": "earth"}),
    ):
        loupe.data.load("digits")
