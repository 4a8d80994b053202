"""A unit stores what it read and what made it: later lookups and the mark "other code" rest on this."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from loupe.errors import LoupeError
from loupe.experiment import closure, process, provenance
from loupe.experiment.compute import start_server
from loupe.experiment.folders import project_root
from loupe.experiment.process import run_unit, take_place
from loupe.experiment.provenance import code_of
from loupe.experiment.store import Store
from loupe.experiment.units import units_of
from loupe.papers import load_room


def unit_of(**overrides):
    room = load_room("ph_dimension")
    (unit,) = units_of(room, "smoke", overrides, experiment="known_dimensions", seed=0)
    return unit


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_frozen", {})
    monkeypatch.setenv("LOUPE_UNIT", "")  # which running one sets
    store = Store(tmp_path / "results", tmp_path / "scratch")
    (tmp_path / "work").mkdir()
    with warnings.catch_warnings(action="ignore"):  # small clouds may saturate
        run_unit(unit_of(), store, "cpu", tmp_path / "work", code_of(unit_of()))
    return store


def test_the_settings_that_were_read_are_stored_and_no_others(stored):
    settings = stored.find(unit_of()).settings
    assert set(settings) == {"clouds", "cloud_points", "cloud_sizes", "repeats"}
    assert settings["cloud_points"] == unit_of().config.cloud_points


def test_a_changed_setting_is_another_result(stored):
    unit, changed = unit_of(), unit_of(repeats=2)
    # Under the name of the other configuration.
    stored.path(changed).write_bytes(stored.path(unit).read_bytes())
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


# --- processes ----------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    place = take_place(unit_of(), store, started())
    yield place
    place.leave(done=True)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started():
    return start_server([unit_of()])["smoke", "ph_dimension", "known_dimensions"]


def test_a_unit_has_a_session_of_its_own_and_a_log(place, tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    one = process.start(unit_of(repeats=1000), store, "cpu", place, started())
    while one.is_alive() and not place.log.exists():
        time.sleep(0.01)
    assert os.getsid(one.pid) == one.pid
    assert os.readlink(f"/proc/{one.pid}/fd/2") == str(place.log)
    process.end([one])


def test_a_kill_and_a_server_that_is_gone_are_seen(place, tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    for victim, code in (("unit", -signal.SIGKILL), ("server", process.NO_SERVER)):
        one = process.start(unit_of(repeats=1000), store, "cpu", place, started())
        server = int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(one.pid if victim == "unit" else server, signal.SIGKILL)
        one.join(timeout=20)
        assert one.exitcode == code
        process.kill(one)
        deadline = time.monotonic() + 20
        while is_alive(one.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_ending_is_kind_at_first(place, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 20)
    store, begin = Store(tmp_path / "results", tmp_path / "scratch"), time.monotonic()
    one = process.start(unit_of(repeats=1000), store, "cpu", place, started())
    process.end([one])
    assert one.exitcode == -signal.SIGTERM
    assert time.monotonic() - begin < 20
    process.end([one])  # of one that is over nothing is left to end


def test_sources_that_changed_meanwhile_are_refused(place, monkeypatch):
    started()
    sources = closure.read_sources()
    monkeypatch.setattr(closure, "read_sources", lambda: sources | {"loupe.errors": "x = 1"})
    with pytest.raises(LoupeError, match="edited after this process began to compute: start it again"):
        started()


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system has no groups of sessions")
def test_a_nice_unit_is_nice_beyond_its_own_session():
    program = (
        "import os; os.setsid(); os.nice(7); from loupe.experiment.process import _nice_as_a_group as nice; nice(); "
        "print(open('/proc/self/autogroup').read())"
    )
    said = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True).stdout
    assert said.split()[-2:] == ["nice", "7"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a server of units")
def test_an_interrupt_while_the_server_imports_ends_nothing(tmp_path):
    """Ctrl-C reaches every process of the terminal; the server, still importing, is not the one it is for."""
    (tmp_path / "interrupted.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    program = (
        "from loupe.experiment import process; process.start_server(['interrupted', 'loupe.papers']); "
        "one = process._context().Process(target=print, args=('alive',)); one.start(); one.join()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("alive\n", "")
