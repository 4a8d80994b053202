"""Compute missing units, each in its own single-thread process.

An interruption loses only the units in progress, or only their last steps if they keep checkpoints; the same command
continues with the rest.
"""

import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import signature
from itertools import count
from multiprocessing import connection
from pathlib import Path
from typing import Any

from loupe.errors import LoupeError, shown
from loupe.experiment import process, provenance
from loupe.experiment.folders import StoreError, read_whole, write_whole
from loupe.experiment.store import Store, probe_folders, read_result
from loupe.experiment.units import Unit, experiments_of

Report = Callable[[str], None]

_PAUSE = 0.5  # seconds between checks of units that another run is computing
ENOUGH = 300.0
"""Seconds that must remain to start a unit with checkpoints."""


class UnitError(LoupeError):
    """A unit ended without a result."""


def compute(
    units: Iterable[Unit],
    store: Store,
    *,
    jobs: int | None = None,
    device: str | None = None,
    recompute: bool = False,
    within: float | None = None,
    report: Report = lambda line: None,
) -> list[Unit]:
    """Compute the units whose results are missing and return them, except those that ran out of time.

    Chapters take turns, unit by unit, each in the order of its room's ``PRIORITY``. Another run on this machine may work
    on the same units: the two share them, but with ``recompute`` each computes all. Under ``torchrun`` all ranks compute
    each unit together; only rank 0 returns, and the others exit after their last unit.

    Parameters
    ----------
    units
        The units of one or several chapters.
    store
        Where to find and write results.
    jobs
        Number of units at once; by default one for each core, or one on a GPU.
    device
        A torch device; by default a GPU if there is one, else the CPU.
    recompute
        Also compute units that have a result; the old result stays until the new one replaces it.
    within
        Seconds after which units are stopped, with :data:`loupe.experiment.process.GRACE` to save their state. A unit
        with checkpoints starts if five minutes remain, any other only if it should finish in time.
    report
        Called with each progress line.

    Raises
    ------
    UnitError
        After all units have been tried, if some failed; those that finished are stored.
    """
    together = _processes()
    _check(jobs, device, together)
    units = in_turn(units)
    todo = _missing(units, store, recompute, report)
    if together > 1:
        return _walk_together(units, todo, store, device, report)
    if not todo:
        return []
    jobs = jobs or (1 if Path("/dev/nvidiactl").exists() else os.cpu_count() or 1)
    return _Run(todo, store, jobs, device, recompute, within, report).finish()


def _check(jobs: int | None, device: str | None, together: int) -> None:
    if jobs is not None and jobs < 1:
        raise LoupeError(f"--jobs {jobs} is too small: give 1 or more, or leave it out for one per core.")
    if together > 1 and jobs not in (None, 1):
        raise LoupeError(
            f"--jobs {jobs} is refused: under torchrun all processes share one unit, so leave it out."
        )
    if device is None:
        return
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise LoupeError(f"--device {device!r} is refused: give cpu, cuda or cuda:N.")
    if device != "cpu" and not Path("/dev/nvidiactl").exists():
        raise LoupeError(f"--device {device!r} is refused: this machine has no GPU driver.")
    if together > 1 and ":" in device:
        raise LoupeError(
            f"--device {device!r} is refused: under torchrun each process takes a GPU of its own."
        )


def _missing(units: Iterable[Unit], store: Store, recompute: bool, report: Report) -> list[Unit]:
    """The units to compute, including those with a damaged file, which are reported."""
    todo = []
    for unit in units:
        try:
            if not recompute and provenance.reusable(unit, store):
                continue
        except StoreError as error:
            report(f"{error} Computing it again now.")
        todo.append(unit)
    return todo


def in_turn(units: Iterable[Unit]) -> list[Unit]:
    """The first unit of each chapter, then the second of each, and so on; stored ones count, so a later run goes on."""
    turns = defaultdict(count)
    return sorted(sorted(units, key=_rank), key=lambda unit: next(turns[unit.slug]))


def _rank(unit: Unit) -> tuple[int, int, int]:
    """The rank of a unit in its room's order: experiments in a group take turns, seed by seed."""
    order = getattr(unit.room, "PRIORITY", ())
    for place, group in enumerate(order):
        if unit.experiment == group:
            return place, 0, 0
        if isinstance(group, tuple) and unit.experiment in group:
            return place, unit.seed, group.index(unit.experiment)
    return len(order), 0, 0


# --- one run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attempt:
    unit: Unit
    place: process.Place
    process: Any
    begin: float


class _Run:
    """One call of :func:`compute`: waiting units, running units, and failures."""

    def __init__(self, todo, store, jobs, device, recompute, within, report):
        self.waiting, self.store, self.jobs, self.device = list(todo), store, jobs, device
        self.recompute, self.report = recompute, report
        self.end = math.inf if within is None else time.monotonic() + within
        self.total, self.done, self.tried, self.failures, self.restarted = len(todo), [], 0, [], set()
        self.running: list[_Attempt] = []
        self.costs = {_kind(unit): _earlier_seconds(unit, store) for unit in todo}

    def finish(self) -> list[Unit]:
        """Try every unit, and return those that are stored now."""
        probe_folders(self.store.path(unit).parent for unit in self.waiting)
        codes = start_server(self.waiting)
        units, processes = f"unit{'s' * (self.total != 1)}", f"process{'es' * (self.jobs != 1)}"
        self.report(f"{self.total} {units} to compute in {self.jobs} {processes}{self.expected()}")
        announced = False
        with _stoppable():
            try:
                while self.start_some(codes) or self.running:
                    if not self.running and not announced:
                        self.report(f"{self.waiting[0]}: another run is computing it; waiting for its end")
                        announced = True
                    if time.monotonic() >= self.end:
                        break
                    self.conclude_some()
            except KeyboardInterrupt:
                raise LoupeError(f"stopped after {self.tried} of {self.total} units; {_GO_ON}") from None
            finally:
                self.leave()
        if self.failures:
            raise UnitError(" ".join(dict.fromkeys(self.failures)))
        if len(self.done) < self.total:
            self.report(f"time is up after {len(self.done)} of {self.total} units; {_GO_ON}")
        return self.done

    def start_some(self, codes: Mapping) -> bool:
        """Start as many units as possible; returns whether there is anything left to wait for."""
        blocked = False  # by another run
        for unit in list(self.waiting):
            code = codes[_kind(unit)]
            if len(self.running) == self.jobs or self.too_early(unit) or not self.in_time(unit, code):
                continue
            if (place := process.take_place(unit, self.store, code)) is None:
                blocked = True
                continue
            self.waiting.remove(unit)
            if _missing([unit], self.store, self.recompute, lambda line: None):
                one = process.start(unit, self.store, self.device, place, code)
                self.running.append(_Attempt(unit, place, one, time.monotonic()))
            else:
                place.leave(done=True)
                seconds = _earlier_seconds(unit, self.store) or 0.0
                self.conclude(unit, "stored by another run meanwhile", seconds)
        return blocked

    def too_early(self, unit: Unit) -> bool:
        """Whether a unit that it starts from is still to be computed."""
        ahead = [*self.waiting, *(one.unit for one in self.running)]
        return any(one in ahead for one in unit.before())

    def in_time(self, unit: Unit, code: Mapping[str, str]) -> bool:
        """Whether to start a unit, judging from earlier units and attempts."""
        if self.end == math.inf:
            return True
        tried = float(read_whole(process.folder_of(unit, self.store, code) / "tried") or 0)
        needs = ENOUGH if _keeps_checkpoints(unit) else max(self.costs[_kind(unit)] or 0.0, tried)
        return self.end - time.monotonic() >= needs

    def conclude_some(self) -> None:
        """Wait briefly or until a unit ends, and report finished units."""
        pause = _PAUSE if len(self.running) < self.jobs and self.waiting else 3600.0
        sentinels = [one.process.sentinel for one in self.running]
        connection.wait(sentinels, max(0.0, min(pause, self.end - time.monotonic())))
        for one in [one for one in self.running if not one.process.is_alive()]:
            self.running.remove(one)
            seconds, why = time.monotonic() - one.begin, _why(one)
            again = one.process.exitcode == process.UNUSABLE_CHECKPOINT and one.unit not in self.restarted
            one.place.leave(done=again or not why)
            if again:
                self.report(f"{why} Starting it again now.")
                self.restarted.add(one.unit)
                self.waiting.insert(0, one.unit)
            elif why:
                self.failures.append(why)
                self.conclude(one.unit, f"failed after {seconds:.1f} s")
            else:
                self.conclude(one.unit, _cost(one.unit, self.store, seconds), seconds)

    def conclude(self, unit: Unit, outcome: str, seconds: float | None = None) -> None:
        """Report how a unit ended."""
        self.tried += 1
        if seconds is not None:
            self.done.append(unit)
            self.costs[_kind(unit)] = seconds
        self.report(f"[{self.tried}/{self.total}] {unit}: {outcome}{self.expected()}")

    def expected(self) -> str:
        """Expected remaining time, from the cost of earlier results of the same experiments."""
        seconds = [self.costs[_kind(unit)] for unit in (*self.waiting, *(one.unit for one in self.running))]
        if not seconds or None in seconds:
            return ""
        rest = max(sum(seconds) / self.jobs, max(seconds))
        return f", about {rest / 60:.0f} min left" if rest > 90 else f", about {rest:.0f} s left"

    def leave(self) -> None:
        """Stop running units; they keep their checkpoints, with a note of the time they had."""
        process.end([one.process for one in self.running])
        for one in self.running:
            if time.monotonic() >= self.end and not _keeps_checkpoints(one.unit):
                write_whole(one.place.folder / "tried", f"{self.end - one.begin:.0f}\n".encode())
            one.place.leave(done=False)


_GO_ON = "what was finished is stored, and the same command continues with the rest."


def _kind(unit: Unit) -> tuple[str, str, str]:
    return unit.preset, unit.slug, unit.experiment


def _codes(units: Iterable[Unit]) -> dict[tuple[str, str, str], dict[str, str]]:
    one_of_each = {_kind(unit): unit for unit in units}
    return {kind: provenance.code_of(unit) for kind, unit in one_of_each.items()}


def start_server(units: Iterable[Unit]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Fix the current sources for all units, and return the digests of their code by kind.

    Raises
    ------
    LoupeError
        If this process has already computed units from other sources.
    """
    provenance.freeze_sources()
    codes = _codes(units)
    modules = {name for code in codes.values() for name in code if name.startswith("loupe")}
    # Otherwise each unit that trains would import it, which takes a second.
    dynamo = ["torch._dynamo"] if any(name.startswith("loupe.training") for name in modules) else []
    process.start_server([*sorted({unit.module for unit in units}), *sorted(modules), *dynamo])
    return codes


def _keeps_checkpoints(unit: Unit) -> bool:
    return "work" in signature(experiments_of(unit.room)[unit.experiment]).parameters


def _earlier_seconds(unit: Unit, store: Store) -> float | None:
    """Seconds of the longest stored unit of the same experiment, if any."""
    seconds = []
    for path in store.path(unit).parent.glob(f"{unit.experiment}-s*.json"):
        with suppress(StoreError):
            earlier = read_result(path, "")
            seconds.append(earlier and earlier.provenance.get("seconds"))
    return max((one for one in seconds if one is not None), default=None)


def _why(one: _Attempt) -> str:
    """Why a finished unit failed; empty if it did not."""
    code = one.process.exitcode
    if code == 0:
        return ""
    if code in (-signal.SIGKILL, process.NO_SERVER):
        process.kill(one.process)
        return f"{one.unit} was killed (out of memory?)."
    lines = (read_whole(one.place.log) or b"").decode(errors="replace").strip().splitlines()
    for line in reversed(lines):
        if line.startswith("loupe: "):
            return line.removeprefix("loupe: ")
    return "\n".join([f"{one.unit} failed:", *(lines or ["no message"])[-12:]]) + "\n"


def _cost(unit: Unit, store: Store, seconds: float) -> str:
    result = store.find(unit)
    if result is None:  # another run is just replacing it
        return f"{seconds:.1f} s"
    cost = result.provenance
    return f"{cost['seconds']:.1f} s (CPU {cost['cpu_seconds']:.1f} s, {cost['peak_memory_mb']} MB)"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into ``KeyboardInterrupt``, so that units are stopped too."""
    main = threading.current_thread() is threading.main_thread()
    ends = (signal.SIGTERM, signal.SIGHUP) if main else ()
    before = {sign: signal.signal(sign, signal.default_int_handler) for sign in ends}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


# --- many processes for one unit ----------------------------------------------------------------------------


def _processes() -> int:
    """Number of processes that ``torchrun`` started; 1 without it."""
    count = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", count):
        raise LoupeError(f"WORLD_SIZE={shown(count)} is not a number of processes: unset it.")
    if count != "1" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise LoupeError(
            f"WORLD_SIZE={count} says that this is one of several processes, but torchrun did not start it: "
            "start it by torchrun, or unset WORLD_SIZE."
        )
    return int(count)


def _walk_together(
    units: list[Unit], todo: list[Unit], store: Store, device: str | None, report: Report
) -> list[Unit]:
    """In every rank, compute the units that rank 0 found missing; a failed unit ends the run."""
    from torch import distributed

    first = os.environ["RANK"] == "0"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    board = distributed.TCPStore(address, port, is_master=False)  # torchrun keeps it alive
    key = f"loupe-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    codes = _codes(units)
    places = {}
    if first:
        for unit in todo:
            if (place := process.take_place(unit, store, codes[_kind(unit)])) is None:
                raise LoupeError(f"{unit}: another run is computing it: wait for its end.")
            places[unit] = place
        board.set(key, json.dumps([units.index(unit) for unit in todo]))
        report(f"{len(todo)} unit{'s' * (len(todo) != 1)} to compute in {_processes()} processes")
    todo = [units[number] for number in json.loads(board.get(key))]
    device = device or process.best_device()
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    for done, unit in enumerate(todo, 1):
        code = codes[_kind(unit)]
        with process.in_one_sentence(unit):
            process.run_unit(unit, store, device, process.folder_of(unit, store, code), code)
        if distributed.is_initialized():
            distributed.barrier()
        if first:
            places[unit].leave(done=True)
            report(f"[{done}/{len(todo)}] {unit}: {_cost(unit, store, 0.0)}")
    if not first:
        sys.exit()
    return todo
