"""Filling the store: the units that are missing, each in a single-thread process of its own.

Interrupting loses only the units in flight; the same command goes on with the rest.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from loupe.errors import LoupeError
from loupe.experiment import ranks
from loupe.experiment.folders import StoreError
from loupe.experiment.launching import Launcher, UnitProcess
from loupe.experiment.store import Result, Store, probe_folders, read_result
from loupe.experiment.unit_process import UNUSABLE_CHECKPOINT
from loupe.experiment.units import Unit
from loupe.experiment.work import Place, take_place

Report = Callable[[str], None]

_PAUSE = 0.05


class UnitError(LoupeError):
    """A unit ended without a result."""


@dataclass(frozen=True)
class Plan:
    """What is there and what is to be done: ``todo`` keeps the order of the units."""

    found: dict[Unit, Result]
    todo: list[Unit]
    notices: list[str]


def plan(units: Iterable[Unit], store: Store, *, recompute: bool = False) -> Plan:
    """Split units into those with a stored result and those to compute; damaged files are to be computed again."""
    found, todo, notices = {}, [], []
    for unit in units:
        try:
            result = None if recompute else store.find(unit)
        except StoreError as error:
            notices.append(f"{error} Computing it again now.")
            result = None
        if result is None:
            todo.append(unit)
        else:
            found[unit] = result
    return Plan(found, todo, notices)


def compute(
    units: Iterable[Unit],
    store: Store,
    *,
    jobs: int | None = None,
    device: str | None = None,
    recompute: bool = False,
    report: Report = lambda line: None,
) -> list[Unit]:
    """Compute the units whose results are missing and return them.

    Another run on this machine may be at the same units: the two share them out, and with ``recompute`` do each twice.

    Under ``torchrun`` its processes go through the units together, one unit at a time. There this returns in the first
    process only; the others compute what that one announces, until it ends, and end with it.

    Parameters
    ----------
    units
        What is wanted.
    store
        Where results are looked for and written.
    jobs
        How many units run at once; by default the cores of the machine, or one on a GPU.
    device
        A torch device; by default a GPU where there is one, else the processor.
    recompute
        Compute units that have a result as well; the old result stays until the new one replaces it.
    report
        Is given each line of progress.

    Raises
    ------
    UnitError
        After all units have been tried, if some failed; those that finished are stored.
    """
    group = ranks.join()
    if group is not None and ranks.rank() > 0:
        _follow(group)
    if jobs is not None and jobs < 1:
        raise LoupeError(f"--jobs {jobs} is too small: give 1 or more, or leave it out for one per core.")
    if group is not None and jobs not in (None, 1):
        raise LoupeError(
            f"--jobs {jobs} is refused: under torchrun all processes share one unit, so leave it out."
        )
    _check_device(device)
    if group is not None and device is not None and ":" in device:
        raise LoupeError(
            f"--device {device!r} is refused: under torchrun each process takes a GPU of its own."
        )
    work = plan(units, store, recompute=recompute)
    for notice in work.notices:
        report(notice)
    if not work.todo:
        return []
    jobs = jobs or (1 if group or Path("/dev/nvidiactl").exists() else os.cpu_count() or 1)
    clock = _Clock(work.todo, store, jobs)
    probe_folders(store.path(unit).parent for unit in work.todo)
    processes = ranks.processes() if group else jobs
    units_word, processes_word = (
        "unit" if len(work.todo) == 1 else "units",
        "process" if processes == 1 else "processes",
    )
    report(f"{len(work.todo)} {units_word} to compute in {processes} {processes_word}{clock.expected()}")
    failures = _run_all(work.todo, store, jobs, device, recompute, report, clock, group)
    if failures:
        raise UnitError(" ".join(dict.fromkeys(failures)))
    return work.todo


def _check_device(device: str | None) -> None:
    if device is None:
        return
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise LoupeError(f"--device {device!r} is refused: give cpu, cuda or cuda:N.")
    if device != "cpu" and not Path("/dev/nvidiactl").exists():
        raise LoupeError(f"--device {device!r} is refused: this machine has no GPU driver.")


class _Clock:
    """Says how long the rest should take, from what earlier results of the same experiments cost."""

    def __init__(self, todo: list[Unit], store: Store, jobs: int):
        self.jobs, self.total, self.done = jobs, len(todo), 0
        self.costs = {(unit.preset, unit.experiment): _earlier_seconds(unit, store) for unit in todo}
        self.left = list(todo)

    def expected(self) -> str:
        seconds = [self.costs[unit.preset, unit.experiment] for unit in self.left]
        if not seconds or None in seconds:
            return ""
        rest = max(sum(seconds) / self.jobs, max(seconds))
        return f", about {rest / 60:.0f} min left" if rest > 90 else f", about {rest:.0f} s left"

    def finished(self, unit: Unit, seconds: float) -> None:
        self.done += 1
        self.left.remove(unit)
        self.costs[unit.preset, unit.experiment] = seconds


def _earlier_seconds(unit: Unit, store: Store) -> float | None:
    for path in sorted(store.path(unit).parent.glob(f"{unit.experiment}-s*.json")):
        try:
            earlier = read_result(path, "")
        except StoreError:
            continue
        if earlier is not None and "seconds" in earlier.provenance:
            return earlier.provenance["seconds"]
    return None


def _run_all(todo, store, jobs, device, recompute, report, clock, group) -> list[str]:
    """Keep ``jobs`` processes busy until every unit was tried; return one sentence for each that failed."""
    waiting, running, failures, told, launcher = list(todo), {}, [], False, Launcher()
    restarted = set()

    def say(unit: Unit, seconds: float, outcome: str) -> None:
        clock.finished(unit, seconds)
        report(f"[{clock.done}/{clock.total}] {unit}: {outcome}{clock.expected()}")

    with _stoppable():
        try:
            while waiting or running:
                for unit in list(waiting):
                    if len(running) == jobs or (place := take_place(unit, store)) is None:
                        continue
                    waiting.remove(unit)
                    found = None if recompute else plan([unit], store).found.get(unit)
                    if found is None:
                        process = _start(launcher, _request(unit, store, device, place), place, group)
                        running[process] = (unit, place, time.perf_counter())
                    else:
                        place.leave(done=True)
                        say(unit, found.provenance.get("seconds"), "stored by another run meanwhile")
                if waiting and not running and not told:
                    report(f"{waiting[0]}: another run is computing it; waiting for its end")
                    told = True
                for process in [process for process in running if _is_over(process, group)]:
                    unit, place, begin = running[process]
                    why, seconds = _conclude(unit, process, group), time.perf_counter() - begin
                    del running[process]
                    if process.returncode == UNUSABLE_CHECKPOINT and unit not in restarted:
                        report(f"{why} Starting it again now.")
                        restarted.add(unit)
                        waiting.insert(0, unit)
                        place.leave(done=True)
                        continue
                    place.leave(done=not why)
                    failures += [why] if why else []
                    outcome = f"failed after {seconds:.1f} s" if why else _cost(unit, store, seconds)
                    say(unit, seconds, outcome)
                time.sleep(_PAUSE)
        except KeyboardInterrupt:
            raise LoupeError(
                f"stopped after {clock.done} of {clock.total} units; what was finished is stored, "
                "and the same command goes on with the rest."
            ) from None
        finally:
            _end(running)
            for _, place, _ in running.values():
                place.leave(done=False)
            launcher.close()
    return failures


def _follow(group: ranks.Group) -> NoReturn:
    """Compute with the first process what it announces, write nothing, and end when it ends."""
    running, launcher = [], Launcher()
    with _stoppable():
        try:
            while (call := group.next()) is not None:
                request, environment = call
                running = [launcher.start(request, environment)]
                while not _is_over(*running, group):
                    time.sleep(_PAUSE)
                _conclude(request["name"], *running, group)
        except KeyboardInterrupt:
            sys.exit(1)  # the first process says why
        finally:
            _end(running)
            launcher.close()
    sys.exit()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let being ended from outside be a ``KeyboardInterrupt``, so that units are ended as well."""
    ends = (signal.SIGTERM, signal.SIGHUP) if _in_main_thread() else ()
    before = {sign: signal.signal(sign, signal.default_int_handler) for sign in ends}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _end(processes: Iterable[UnitProcess]) -> None:
    """End units with all that they started: first kindly, so that they may save what they have."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        _signal(process, signal.SIGTERM)
    for process in alive:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: UnitProcess, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, sign)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _request(unit: Unit, store: Store, device: str | None, place: Place) -> dict:
    return {
        "name": str(unit),
        "slug": unit.slug,
        "preset": unit.preset,
        "overrides": json.loads(unit.config.model_dump_json()),
        "experiment": unit.experiment,
        "seed": unit.seed,
        "device": device,
        "published": str(store.published),
        "scratch": str(store.scratch),
        "work": str(place.folder),
    }


def _start(launcher: Launcher, request: dict, place: Place, group: ranks.Group | None) -> UnitProcess:
    return launcher.start(request, group.announce(request) if group else {}, [place.lock.fileno()])


def _is_over(process: UnitProcess, group: ranks.Group | None) -> bool:
    return process.poll() is not None or (group is not None and group.broken())


def _conclude(unit: Unit | str, process: UnitProcess, group: ranks.Group | None) -> str:
    """Why a unit that is over failed, here or in another process of its group; empty if it did not."""
    if process.poll() is None:
        _end([process])
        why = ""  # it was another that failed
    else:
        why = _why(unit, process) if process.returncode else ""
    process.log.close()
    return group.conclude(why) if group else why


def _why(unit: Unit | str, process: UnitProcess) -> str:
    if process.returncode == -signal.SIGKILL:
        return f"{unit} was killed (out of memory?)."
    process.log.seek(0)
    # Torch puts the number of the process before each line, and may have more to say after the last word.
    lines = [re.sub(r"^\[rank\d+\]: ?", "", line) for line in process.log.read().strip().splitlines()]
    for line in reversed(lines):
        if line.startswith("loupe: "):
            return line.removeprefix("loupe: ")
    return "\n".join([f"{unit} failed:", *(lines or ["no message"])[-12:]]) + "\n"


def _cost(unit: Unit, store: Store, seconds: float) -> str:
    result = store.find(unit)
    if result is None:  # another run is just replacing it
        return f"{seconds:.1f} s"
    cost = result.provenance
    return f"{cost['seconds']:.1f} s (CPU {cost['cpu_seconds']:.1f} s, {cost['peak_memory_mb']} MB)"
