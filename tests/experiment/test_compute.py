"""Units in processes: two runs at once, several processes for one unit, and what a person reads when one fails."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy import ROOM

from loupe.experiment import provenance
from loupe.experiment.compute import in_turn
from loupe.experiment.folders import project_root
from loupe.experiment.process import take_place
from loupe.experiment.store import Store, read_result
from loupe.experiment.units import units_of

CHAPTERS = Path(__file__).parent / "chapters"
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "loupe")


@pytest.fixture
def environment(tmp_path):
    """With the chapter ``trained`` and a store of its own."""
    return {"PYTHONPATH": str(CHAPTERS), "LOUPE_RESULTS": str(tmp_path), "SLOW_LOG": str(tmp_path / "log")}


def start(environment, *arguments, module=("loupe",)):
    return subprocess.Popen(
        [sys.executable, "-m", *module, "compute", "trained", *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=project_root(), env=os.environ | environment,
    )  # fmt: skip


def run(environment, *arguments, module=("loupe",)):
    """Exit status, output and errors of `loupe compute trained ...`."""
    process = start(environment, *arguments, module=module)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def stored(environment, preset="smoke"):
    """The stored results of the chapter by (experiment, seed), each compared with its digest."""
    folder = Store(*(Path(environment["LOUPE_RESULTS"]) / name for name in ("", "scratch"))).of(
        "trained", preset
    )
    results = [read_result(path, "") for path in sorted(folder.glob("*-s*.json"))]
    return {(result.experiment, result.seed): result for result in results}


# --- several processes for one unit -------------------------------------------------------------------------


def test_two_processes_share_each_unit(environment, monkeypatch):
    status, output, errors = run(environment, "--experiment", "train", module=TORCHRUN)
    assert status == 0, errors
    assert output.count("1 unit to compute in 2 processes") == 1
    assert output.count("[1/1] trained/train seed 0 at smoke: ") == 1
    results = stored(environment)
    assert list(results) == [("train", 0)]
    assert results["train", 0].provenance["processes"] == 2
    assert results["train", 0]["rank"] == 0

    monkeypatch.syspath_prepend(CHAPTERS)
    alone = importlib.import_module("trained").train(
        None, seed=0, device="cpu", work=Path(environment["SLOW_LOG"])
    )
    for name, value in alone.items():
        np.testing.assert_allclose(results["train", 0][name], value, rtol=1e-4, atol=1e-5)

    status, output, errors = run(environment, module=TORCHRUN)
    assert status != 0
    assert "loupe: trained/lopsided seed 0 at smoke: one side fell.\n" in errors
    assert output.count("1 unit to compute in 2 processes") == 1
    assert stored(environment)["train", 0].provenance == results["train", 0].provenance
    folder = Path(environment["LOUPE_RESULTS"]) / "checkpoints/smoke/trained"
    assert [path.name.partition("-")[0] for path in folder.iterdir() if path.is_dir()] == ["lopsided"]


def test_world_size_without_torchrun_is_one_sentence(environment):
    status, _, errors = run(environment | {"WORLD_SIZE": "2", "RANK": "0"})
    assert status == 1
    assert errors.startswith("loupe: WORLD_SIZE=2 says")
    assert errors.count("\n") == 1


# --- two runs at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [False, True])
def test_two_runs_at_once(environment, recompute):
    arguments = ["--preset", "cpu", "--jobs", "1", *["--recompute"] * recompute]
    runs = [start(environment, *arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert set(stored(environment, "cpu")) == {("slow", 0), ("slow", 1)}
    log = Path(environment["SLOW_LOG"]).read_text().splitlines()
    for seed in "01":
        # Never two at one unit at the same time; twice one after the other only if so asked.
        assert [line for line in log if line.startswith(seed)] == [f"{seed} begin", f"{seed} end"] * (
            1 + recompute
        )


def test_a_unit_that_outlives_its_run_keeps_its_place(environment):
    log, arguments = Path(environment["SLOW_LOG"]), ("--preset", "cpu", "--seed", "0", "--set", "pause=1.5")
    first, deadline = start(environment, *arguments), time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline, "no unit in time"
        time.sleep(0.02)
    first.kill()
    status, output, errors = run(environment, *arguments)
    first.communicate()
    assert status == 0, errors
    assert log.read_text().splitlines() == ["0 begin", "0 end"], output


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def unit_of(**overrides):
    (unit,) = units_of(ROOM, "cpu", overrides, experiment="walk", seed=0)
    return unit


CODE = {"experiment": "toy:walk", "toy": "0" * 16}


def test_a_place_has_one_holder(store):
    place = take_place(unit_of(), store, CODE)
    assert take_place(unit_of(), store, CODE) is None
    other = take_place(unit_of(steps=11), store, CODE)  # another result
    other.leave(done=True)
    (place.folder / "run").write_text("half")
    place.leave(done=False)
    again = take_place(unit_of(), store, CODE)
    assert (again.folder / "run").read_text() == "half"
    again.leave(done=True)
    assert not place.folder.exists()


def test_a_process_that_inherits_a_place_holds_it_until_it_is_killed(store):
    place = take_place(unit_of(), store, CODE)
    unit_process = subprocess.Popen(["sleep", "60"], pass_fds=[place.lock.fileno()])
    place.leave(done=False)
    assert take_place(unit_of(), store, CODE) is None
    unit_process.kill()
    unit_process.wait()
    take_place(unit_of(), store, CODE).leave(done=True)


def test_a_place_of_other_sources_is_emptied(store):
    old = take_place(unit_of(), store, CODE)
    trial = take_place(unit_of(steps=11), store, CODE)
    old.leave(done=False)
    new = take_place(unit_of(), store, CODE | {"toy": "1" * 16})
    assert new.folder != old.folder
    assert not old.folder.exists()
    assert trial.folder.exists()
    new.leave(done=True)
    trial.leave(done=True)


# --- ended and gone on with ---------------------------------------------------------------------------------

SHORT = "import sys; from loupe.experiment import compute, process; compute.ENOUGH = 0; process.GRACE = 5; "


def patient(environment, *arguments, pause=0.0):
    """`loupe compute trained` as a process for which five minutes are nothing, with a pause at each of 50 steps."""
    words = ["loupe", "compute", "trained", "--preset", "paper", *arguments]
    code = f"{SHORT}sys.argv = {words}; from loupe.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=project_root(), env=os.environ | environment | {"PAUSE": str(pause)},
    )  # fmt: skip


def checkpointed(environment):
    return [*(Path(environment["LOUPE_RESULTS"]) / "checkpoints").rglob("patient*/run*")]


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["--within", signal.SIGTERM, signal.SIGKILL], ids=str)
def test_ended_and_gone_on_with_to_the_same_bits(environment, tmp_path_factory, how):
    whole = environment | {"LOUPE_RESULTS": str(tmp_path_factory.mktemp("whole"))}
    patient(whole).communicate(timeout=60)
    log = Path(environment["SLOW_LOG"])
    log.unlink()
    # It is stopped while it computes.
    pause, time_given = (1.0, ["--within", "20s"]) if how == "--within" else (0.1, [])
    first = patient(environment, *time_given, pause=pause)
    until(lambda: log.exists() and log.read_text())
    if how == signal.SIGKILL:
        until(lambda: checkpointed(environment))
    pid = int(log.read_text())
    if how != "--within":
        first.send_signal(how)
    output, errors = first.communicate(timeout=60)
    until(lambda: not is_alive(pid))
    assert checkpointed(environment), errors
    if how == "--within":
        assert first.returncode == 0, errors
        assert "time is up after 0 of 1 units; what was finished is stored" in output
    elif how == signal.SIGTERM:
        assert errors.startswith("loupe: stopped after 0 of 1 units")
        assert errors.count("\n") == 1
    again = patient(environment)
    output, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    (result,), (other,) = (every_result(where) for where in (environment, whole))
    assert result.provenance["resumed"]
    for name in other:
        np.testing.assert_array_equal(result[name], other[name])


def every_result(environment):
    paths = sorted(Path(environment["LOUPE_RESULTS"]).rglob("patient-s*.json"))
    return [read_result(path, "") for path in paths]


def test_what_should_not_end_in_time_is_not_started(environment):
    slow = ("--preset", "cpu", "--set", "pause=0.6")
    assert run(environment, *slow, "--seed", "0")[0] == 0
    status, output, _ = run(environment, *slow, "--seed", "1", "--within", "1s")
    assert status == 0
    assert "time is up after 0 of 1 units" in output
    assert not [*Path(environment["LOUPE_RESULTS"]).rglob("slow-s1*.json")]
    assert run(environment, *slow, "--seed", "1", "--within", "1h")[0] == 0
    assert [*Path(environment["LOUPE_RESULTS"]).rglob("slow-s1*.json")]


def test_an_attempt_that_was_too_long_is_remembered(environment):
    words = ("--preset", "cpu", "--seed", "0", "--set", "pause=60")
    patient(environment, *words, "--within", "20s").communicate(timeout=60)
    assert Path(environment["SLOW_LOG"]).read_text() == "0 begin\n"
    again = patient(environment, *words, "--within", "5s")
    output, _ = again.communicate(timeout=60)
    assert "time is up after 0 of 1 units" in output
    assert Path(environment["SLOW_LOG"]).read_text() == "0 begin\n"


def test_chapters_take_turns_in_the_order_of_their_rooms():
    rooms = {"a": ("main", ("ours", "theirs"), "extra"), "b": (("net", "peer"),), "c": ()}
    experiments = {"a": ("extra", "main", "theirs", "ours", "rest"), "b": ("peer", "net"), "c": ("only",)}
    units = [
        SimpleNamespace(slug=slug, room=SimpleNamespace(PRIORITY=rooms[slug]), experiment=name, seed=seed)
        for slug, names in experiments.items() for name in names for seed in (0, 1)
    ]  # fmt: skip
    found = [f"{unit.slug} {unit.experiment} {unit.seed}" for unit in in_turn(units)]
    of = {slug: [name[2:] for name in found if name.startswith(slug)] for slug in rooms}
    main, pairs = ["main 0", "main 1"], ["ours 0", "theirs 0", "ours 1", "theirs 1"]
    assert of["a"] == [*main, *pairs, "extra 0", "extra 1", "rest 0", "rest 1"]
    assert of["b"] == ["net 0", "peer 0", "net 1", "peer 1"]
    assert "".join(name[0] for name in found) == "abc" + "acb" + "ba" + "ba" + 6 * "a"


# --- one after another --------------------------------------------------------------------------------------


def test_a_unit_starts_from_what_another_has_stored(environment, monkeypatch):
    wanted = ("--set", "judged_seeds=[0]")
    status, _, errors = run(environment, *wanted, "--experiment", "judged")
    assert status == 1
    assert errors == (
        "loupe: trained/judged seed 0 at smoke starts from train seed 0, which is not stored: type "
        "`loupe compute trained --preset smoke --experiment train` first.\n"
    )
    status, _, errors = run(environment, *wanted, "--jobs", "2")
    assert status == 0, errors
    results = stored(environment)
    assert results["judged", 0]["size"] == pytest.approx(abs(results["train", 0]["weight"]).mean())
    assert results["judged", 0].provenance["earlier"] == {"train": results["train", 0].npz}
    assert run(environment, *wanted)[1].endswith("are stored at smoke; nothing to compute.\n")

    monkeypatch.syspath_prepend(CHAPTERS)
    store = Store(*(Path(environment["LOUPE_RESULTS"]) / name for name in ("", "scratch")))
    room, old = importlib.import_module("trained"), results["train", 0]
    monkeypatch.setattr(room, "PAPER", SimpleNamespace(slug="trained"))
    (judged,) = units_of(room, "smoke", {"judged_seeds": [0]}, experiment="judged")
    (train,) = judged.before()
    store.write(train, {"weight": 2 * old["weight"]}, settings=old.settings, provenance=old.provenance)
    assert provenance.standing_result(judged, store, lambda result: "current")[0] == "other data"
    status, _, errors = run(environment, *wanted)
    assert status == 0, errors
    assert stored(environment)["judged", 0]["size"] == pytest.approx(2 * results["judged", 0]["size"])
    assert provenance.standing_result(judged, store, lambda result: "current")[0] == "current"


# --- what a person reads ------------------------------------------------------------------------------------


def test_a_refused_value_is_a_sentence_and_a_mistake_keeps_its_traceback(environment):
    status, output, errors = run(environment, "--preset", "gpu", "--jobs", "1")
    assert status == 1
    assert "[3/3]" in output
    assert set(stored(environment, "gpu")) == {("wrong", 1)}
    refused, mistake = errors.split("trained/wrong seed 2 at gpu failed:")
    assert refused == "loupe: trained/wrong seed 0 at gpu: alpha 3 is too large: give at most 2. "
    assert "in wrong" in mistake
    assert "IndexError: list index out of range" in mistake
