"""Kills and races: whatever ends a writer, and whenever, the result that was there or the new one is found, whole."""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from loupe.experiment.folders import StoreError
from loupe.experiment.store import Store
from loupe.experiment.units import Unit, units_of
from loupe.papers import load_room


def units(experiment="known_dimensions"):
    """Units of a real chapter, written here with made-up values."""
    return units_of(load_room("ph_dimension"), "cpu", experiment=experiment)


def write(store: Store, unit: Unit, number: int) -> None:
    """A result whose arrays and numbers all say the same number."""
    values = {"number": number, "array": np.full(2000 + number % 7, number)}
    store.write(unit, values, settings={}, provenance={"number": number})


def read(store: Store, unit: Unit) -> int:
    """The number of a stored result, or an error if its parts are of different writes."""
    result = store.find(unit)
    if result is None:
        raise AssertionError("the result is gone")
    said = {
        result["number"],
        int(result["array"].min()),
        int(result["array"].max()),
        result.provenance["number"],
    }
    if len(said) != 1 or len(result["array"]) != 2000 + result["number"] % 7:
        raise AssertionError(f"parts of different writes: {said}")
    return result["number"]


def writer(store: Store, unit: Unit, number: int) -> int:
    """The process of a child that writes one result after another until it is killed."""
    if child := os.fork():
        return child
    try:
        while True:
            number += 1
            write(store, unit, number)
    finally:
        os._exit(1)


def killed_writers(store: Store, kills: int, rng: random.Random) -> int:
    """SIGKILL at any moment of a write, many times; return how many reads succeeded."""
    unit, last = units()[0], 0
    write(store, unit, last)
    for _ in range(kills):
        child = writer(store, unit, last)
        time.sleep(rng.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        number = read(store, unit)
        if number < last:
            raise AssertionError(f"{number} was found after {last}")
        last = number
    for draft in store.path(unit).parent.glob(".*"):
        os.utime(draft, (1, 1))
    write(store, unit, last + 1)
    left = [
        path.name
        for path in store.path(unit).parent.iterdir()
        if path.stem.startswith((unit_stem(unit), "."))
    ]
    if len(left) != 2:
        raise AssertionError(f"left behind: {left}")
    return kills


def unit_stem(unit: Unit) -> str:
    """The name of a unit's files without their endings."""
    return f"{unit.experiment}-s{unit.seed}"


def readers_beside_a_writer(store: Store, seconds: float) -> int:
    """Read without pause while another process replaces the result without pause; return how often."""
    unit = units()[1]
    write(store, unit, 0)
    child, reads, last = writer(store, unit, 0), 0, 0
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number = read(store, unit)
            if number < last:
                raise AssertionError(f"{number} was found after {last}")
            reads, last = reads + 1, number
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return reads


def killed_runs(folder: Path, kills: int, rng: random.Random) -> int:
    """`loupe compute` killed at any moment, and typed again until it is through: the same bytes as without kills."""
    command = [sys.executable, "-m", "loupe", "compute", "ph_dimension", "--preset", "smoke", "--jobs", "2",
               "--experiment", "diffusion_processes"]  # fmt: skip
    for _ in range(kills):
        process = subprocess.Popen(
            [*command, "--recompute"], env=os.environ | {"LOUPE_RESULTS": str(folder)}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(rng.random() * 4)
        process.kill()
        process.wait()
    done = subprocess.run(
        command, env=os.environ | {"LOUPE_RESULTS": str(folder)}, capture_output=True, text=True
    )
    if done.returncode or "Traceback" in done.stderr:
        raise AssertionError(f"after {kills} kills: {done.stderr}")
    found = sorted((folder / "scratch/smoke/ph_dimension").glob("*-s*.json"))
    if len(found) != 2:
        raise AssertionError(f"{len(found)} results of 2")
    return kills


def main():
    """All of it, and counts."""
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--runs", type=int, default=20)
    asked, rng = options.parse_args(), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", Path(folder) / "scratch")
        try:
            print(f"{killed_writers(store, asked.kills, rng)} writers killed, nothing lost")
            print(f"{readers_beside_a_writer(store, asked.seconds)} reads beside a writer, nothing torn")
            print(f"{killed_runs(Path(folder), asked.runs, rng)} runs killed, nothing lost")
        except (AssertionError, StoreError) as error:
            sys.exit(f"kills: {error}")


if __name__ == "__main__":
    main()
