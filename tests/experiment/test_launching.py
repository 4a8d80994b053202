"""Processes of units: what is shared, what is not, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loupe.experiment import launching
from loupe.experiment.launching import Launcher
from loupe.experiment.store import read_result

CHAPTERS = Path(__file__).parent / "chapters"
forked = pytest.mark.skipif(
    sys.platform != "linux" or Path("/dev/nvidiactl").exists(), reason="units are forked on Linux without CUDA only"
)  # fmt: skip


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts units of the chapter ``trained``; what still runs at the end is ended."""
    monkeypatch.setenv("PYTHONPATH", str(CHAPTERS))
    monkeypatch.setenv("SLOW_LOG", str(tmp_path / "log"))
    launcher, processes = Launcher(), []
    work = tmp_path / "work"
    work.mkdir()

    def start(experiment, seed=0, preset="cpu", inherited=(), **overrides):
        request = {
            "name": f"{experiment} {seed}", "slug": "trained", "preset": preset, "overrides": overrides,
            "experiment": experiment, "seed": seed, "device": "cpu", "published": str(tmp_path / "results"),
            "scratch": str(tmp_path / "scratch"), "work": str(work),
        }  # fmt: skip
        processes.append(launcher.start(request, {"TURN": str(len(processes))}, inherited))
        return processes[-1]

    start.launcher = launcher
    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.log.close()
    launcher.close()


def slow_results(tmp_path):
    paths = [*tmp_path.rglob("slow-s?*.json")]
    return {result.seed: result for result in (read_result(path, "") for path in sorted(paths))}


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@forked
def test_units_are_processes_of_their_own_with_one_parent(start, tmp_path):
    first, second = start("slow", 0, pause=0.2), start("slow", 1, pause=0.2)
    assert first.pid != second.pid
    assert parent_of(first.pid) == parent_of(second.pid) != os.getpid()
    assert os.getsid(first.pid) == first.pid
    assert (first.wait(), second.wait()) == (0, 0)
    assert {result["pid"] for result in slow_results(tmp_path).values()} == {first.pid, second.pid}


def test_one_that_fails_takes_no_other_with_it(start):
    other = start("slow", pause=0.5)
    wrong = start("wrong", 2, "gpu")
    assert wrong.wait() == 1
    wrong.log.seek(0)
    assert "IndexError: list index out of range" in wrong.log.read()
    assert other.wait() == 0
    other.log.seek(0)
    assert other.log.read() == ""


def test_one_that_is_killed_says_so(start):
    process = start("slow", pause=60)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL


@forked
def test_a_unit_that_ends_while_another_begins_is_noticed(start):
    """A pipe that a later unit had inherited would keep the end of the earlier one from being seen."""
    first = start("slow", 0, pause=0.3)
    assert first.pid
    second = start("slow", 1, pause=20)
    assert first.wait(timeout=15) == 0
    assert second.poll() is None


@forked
def test_edited_sources_are_imported_anew(start, monkeypatch):
    old = start("slow", 0, pause=1)
    old_parent = parent_of(old.pid)
    monkeypatch.setattr(launching, "sources_digest", lambda: "edited")
    new = start("slow", 1, pause=1)
    assert parent_of(new.pid) != old_parent
    assert (old.wait(), new.wait()) == (0, 0)


@forked
def test_without_the_process_that_forks_units_end_as_well(start):
    process = start("train", preset="smoke")
    pid = process.pid
    os.kill(parent_of(pid), signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    until(lambda: not is_alive(pid))
    late = start("slow")
    assert late.wait(timeout=10) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        print(late.pid)


@forked
def test_closing_ends_the_process_that_forks(start):
    process = start("slow", pause=0.1)
    parent = parent_of(process.pid)
    process.wait()
    start.launcher.close()
    assert not is_alive(parent)


def test_a_descriptor_stays_open_in_the_unit_only(start):
    mine, theirs = os.pipe()
    process = start("slow", pause=0.5, inherited=[theirs])
    assert process.pid
    os.close(theirs)
    os.set_blocking(mine, False)
    with pytest.raises(BlockingIOError):
        os.read(mine, 1)
    assert process.wait() == 0
    assert os.read(mine, 1) == b""
    os.close(mine)


def test_where_forking_is_not_safe_each_unit_starts_afresh(start, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    process = start("slow", pause=0.1)
    assert isinstance(process, subprocess.Popen)
    assert process.wait() == 0
    assert slow_results(tmp_path)[0]["pid"] == process.pid


def test_peak_memory_is_that_of_the_unit(start, tmp_path):
    """What an earlier unit had used is not counted again."""
    assert start("train", preset="smoke").wait() == 0
    assert start("slow", pause=0.1).wait() == 0
    peak = {
        name: read_result(next(tmp_path.rglob(f"{name}-s0*.json")), "").provenance["peak_memory_mb"]
        for name in ("train", "slow")
    }
    assert 10 < peak["slow"] < peak["train"] - 50
