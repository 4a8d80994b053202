"""A small part of `make torture`: the rest takes minutes, and is run by hand before a release."""

import importlib.util
import random
from pathlib import Path

import pytest

from loupe.experiment.store import Store


def attack(name):
    """One of the modules beside this one."""
    spec = importlib.util.spec_from_file_location(f"torture_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_or_read_as_they_were(tmp_path):
    counts, faults = attack("damage").attack(tmp_path, 150)
    assert not faults
    assert counts["sidecar: refused"] > 5


def test_mistyped_commands_are_answered_in_a_few_lines():
    counts, faults = attack("command_lines").in_process(150)
    assert not faults
    assert set(counts) == {"status 0", "status 1", "status 2"}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_writer_loses_nothing(tmp_path):
    kills, store = attack("kills"), Store(tmp_path / "results", tmp_path / "scratch")
    assert kills.killed_writers(store, 40, random.Random(1)) == 40
    assert kills.readers_beside_a_writer(store, 1) > 10


def test_other_code_is_what_it_says():
    found = attack("closures").check("ph_dimension", 25, seed=1)
    assert found["left out"] == {}
    assert found["missed"] == found["flagged"] == []
    assert found["ratio"] < 1.5
