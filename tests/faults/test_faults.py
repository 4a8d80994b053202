"""Killed, interrupted, cut in half, out of room: one sentence, and nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from loupe.experiment.folders import project_root
from loupe.experiment.units import units_of
from loupe.papers import load_room

ROOT = project_root()
SMOKE = ("ph_dimension", "--preset", "smoke")


def start(store, *arguments):
    """`loupe compute ph_dimension --preset smoke ...` in the background, with a store of its own."""
    environment = os.environ | {"LOUPE_RESULTS": str(store)}
    command = [sys.executable, "-m", "loupe", "compute", *SMOKE, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def finished(store):
    return sorted((store / "scratch/smoke/ph_dimension").glob("*-s*.json"))


def wait_for_results(store, count, seconds=60):
    deadline = time.monotonic() + seconds
    while len(finished(store)) < count:
        assert time.monotonic() < deadline, "no result in time"
        time.sleep(0.02)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_stopped_and_resumed(tmp_path, sign):
    process = start(
        tmp_path, "--jobs", "1", "--experiment", "diffusion_processes", "--set", "process_seeds=[0,1,2,3]"
    )
    wait_for_results(tmp_path, 1)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if sign != signal.SIGKILL:
        assert "what was finished is stored, and the same command continues with the rest" in errors
        assert "Traceback" not in errors
    kept = {path: path.read_bytes() for path in finished(tmp_path)}
    assert 1 <= len(kept) < 4
    again = start(
        tmp_path, "--jobs", "2", "--experiment", "diffusion_processes", "--set", "process_seeds=[0,1,2,3]"
    )
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert len(finished(tmp_path)) == 4
    assert all(path.read_bytes() == content for path, content in kept.items())
    leftovers = [
        path for path in (tmp_path / "scratch/smoke/ph_dimension").iterdir() if path.name.startswith(".")
    ]
    assert not leftovers


def test_a_result_cut_in_half_is_named_and_made_again(tmp_path):
    start(tmp_path, "--experiment", "known_dimensions").communicate(timeout=120)
    sidecar = finished(tmp_path)[0]
    (victim,) = sidecar.parent.glob(f"{sidecar.stem}.*.npz")
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    output, _ = start(tmp_path, "--experiment", "known_dimensions").communicate(timeout=120)
    assert f"{victim.name} is damaged" in output
    assert victim.read_bytes() == whole


def test_no_room_left_is_one_sentence_and_keeps_what_was_there(tmp_path):
    """A limit on file sizes stands in for a full disk: writing fails inside the same system call."""
    arguments = ("--experiment", "known_dimensions", "--seed", "0")
    start(tmp_path, *arguments).communicate(timeout=120)
    before = {path: path.read_bytes() for path in (tmp_path / "scratch").rglob("*-s0*")}
    assert len(before) == 2
    command = [sys.executable, "-m", "loupe", "compute", *SMOKE, *arguments, "--recompute"]
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command]
    environment = os.environ | {"LOUPE_RESULTS": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert "could not write" in done.stderr
    assert "make room there, or set LOUPE_RESULTS" in done.stderr
    assert "Traceback" not in done.stderr
    assert before == {path: path.read_bytes() for path in (tmp_path / "scratch").rglob("*-s0*")}


@pytest.mark.parametrize("loss", ["deleted", "cut"])
def test_a_published_notebook_without_a_result(tmp_path, loss):
    """A damaged result stops it, with the command that computes it again; a missing one leaves a sentence."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    for victim in (tmp_path / "results").glob("*/ph_dimension/known_dimensions-s3.*"):
        if loss == "deleted":
            victim.unlink()
        elif victim.suffix == ".npz":
            victim.write_bytes(victim.read_bytes()[:1000])
    output = tmp_path / "out.ipynb"
    arguments = ["notebooks/ph_dimension.ipynb", str(output), "-k", "python3", "--no-progress-bar"]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", *arguments], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"LOUPE_RESULTS": str(tmp_path / "results")},
    )  # fmt: skip
    assert done.returncode == (loss == "cut")
    if loss == "deleted":
        assert (
            "Nothing to show here: the dimension of known sets has not been computed yet."
            in output.read_text()
        )
        return
    (error,) = [
        output for cell in json.loads(output.read_text())["cells"] for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]  # fmt: skip
    assert "`loupe compute ph_dimension --preset" in error["evalue"]
    assert "known_dimensions" in error["evalue"]
    assert len(error["traceback"]) == 1


def test_plain_papermill_at_smoke_in_an_empty_store(tmp_path):
    output = tmp_path / "out.ipynb"
    arguments = [
        "notebooks/ph_dimension.ipynb",
        str(output),
        "-p",
        "preset",
        "smoke",
        "-p",
        "recompute",
        "True",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", *arguments, "-k", "python3", "--no-progress-bar"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"LOUPE_RESULTS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(finished(tmp_path)) == len(units_of(load_room("ph_dimension"), "smoke"))
