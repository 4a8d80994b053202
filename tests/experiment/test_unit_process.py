"""A unit stores what it read and what made it: later lookups and the mark "other code" rest on this."""

import sys
import warnings

import pytest

from loupe.experiment import provenance
from loupe.experiment.folders import project_root
from loupe.experiment.store import Store
from loupe.experiment.unit_process import run_unit
from loupe.experiment.units import room_of, units_of


def unit_of(**overrides):
    room = room_of("ph_dimension")
    (unit,) = units_of(room, "smoke", overrides, experiment="known_dimensions", seed=0)
    return unit


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_frozen", {})
    store = Store(tmp_path / "results", tmp_path / "scratch")
    (tmp_path / "work").mkdir()
    with warnings.catch_warnings(action="ignore"):  # small clouds may saturate
        run_unit(unit_of(), store, "cpu", tmp_path / "work")
    return store


def test_the_settings_that_were_read_are_stored_and_no_others(stored):
    settings = stored.find(unit_of()).settings
    assert set(settings) == {"clouds", "cloud_points", "cloud_sizes", "repeats"}
    assert settings["cloud_points"] == unit_of().config.cloud_points


def test_a_changed_setting_is_another_result(stored):
    unit, changed = unit_of(), unit_of(repeats=2)
    stored.path(changed).write_bytes(
        stored.path(unit).read_bytes()
    )  # under the name of the other configuration
    assert stored.find(unit) is not None
    assert stored.find(changed) is None


def test_what_made_it_is_stored(stored):
    made_by = stored.find(unit_of()).provenance
    assert {"commit", "code", "data", "versions", "hardware", "device", "seconds", "cpu_seconds", "peak_memory_mb",
            "finished", "resumed"} == set(made_by)  # fmt: skip
    assert made_by["cpu_seconds"] > 0
    assert made_by["commit"].split("+")[0] == provenance.commit(project_root()).split("+")[0]
    assert made_by["versions"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")


def test_the_code_that_ran_is_stored_and_current(stored):
    code = stored.find(unit_of()).provenance["code"]
    assert code["experiment"] == "ph_dimension:known_dimensions"
    assert {"loupe.topology.dimension", "loupe.topology.trees", "loupe.topology.clouds"} <= set(code)
    assert provenance.is_current(code)
    assert not provenance.is_current(code | {"loupe.topology.trees": "0" * 16})
