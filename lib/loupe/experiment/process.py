"""One unit in a process of its own: true peak memory, one thread, and an end that takes no other unit with it.

The standard library forks it from a server that has imported the chapter, which takes longer than a short unit does;
on macOS, whose libraries may not survive a fork, it starts afresh.
"""

import fcntl
import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from inspect import signature
from multiprocessing import connection, forkserver, reduction, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import IO

from loupe.errors import CheckpointError, LoupeError
from loupe.experiment import provenance
from loupe.experiment.folders import cannot_write, project_root
from loupe.experiment.store import Result, Store, compute_command
from loupe.experiment.units import Reading, Unit, experiments_of

# The exit status that says: remove the unit's checkpoints and start it again.
UNUSABLE_CHECKPOINT = 75

# The exit status that the standard library makes up for a unit whose server was killed.
NO_SERVER = 255

GRACE = 30.0
"""Seconds that a unit has to save what it has, once it is asked to end; Slurm gives as many."""

_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}

# The library that shows progress takes a semaphore; that of a unit that was ended is cleaned up without a word.
_QUIET = {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}


def run_unit(unit: Unit, store: Store, device: str, work: Path, code: Mapping[str, str]) -> Path | None:
    """Compute a unit here and now, store it with its provenance, and return the path of its ``.json``.

    ``work`` is its folder for checkpoints, ``code`` the digests of its sources when they were imported. Of several
    processes that ``torchrun`` started only the first stores; the others return ``None``.
    """
    function = experiments_of(unit.room)[unit.experiment]
    reading, cost = Reading(unit.config), {}
    commit = provenance.commit(project_root())
    earlier = Earlier(unit, store, reading)
    given = {"work": work, "earlier": earlier}
    wants = {name: given[name] for name in given if name in signature(function).parameters}
    resumed = "work" in wants and any(work.iterdir())
    os.environ["LOUPE_UNIT"] = f"{unit} with settings {unit.config.digest()}"  # written into its checkpoints
    with provenance.only_named_data(code), provenance.measured(cost):
        values = function(reading, seed=unit.seed, device=device, **wants)
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    made_by = cost | {
        "commit": commit,
        "code": dict(code),
        "data": provenance.data_read(),
        **({"earlier": earlier.read} if earlier.read else {}),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(device),
        "device": device,
        "resumed": resumed,  # then the cost is that of the last attempt only
    }
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        made_by["processes"] = processes  # and the cost is that of the first
    return store.write(unit, values, settings=reading.settings_read(), provenance=made_by)


class Earlier(Mapping):
    """The stored results that an experiment starts from, by name; it keeps the files of those that were read.

    Raises
    ------
    LoupeError
        If one is missing; the sentence names the command that makes it.
    """

    def __init__(self, unit: Unit, store: Store, reading: Reading):
        self._units = {one.experiment: one for one in unit.before()}
        self._unit, self._store, self._reading = unit, store, reading
        self.read: dict[str, str] = {}

    def __getitem__(self, name: str) -> Result:
        unit = self._units[name]
        if (result := self._store.find(unit)) is None:
            raise LoupeError(
                f"{self._unit} starts from {name} seed {unit.seed}, which is not stored: type "
                f"`{compute_command(unit)} --experiment {name}` first."
            )
        for field in result.settings:  # what it depends on, this one does
            getattr(self._reading, field)
        self.read[name] = result.npz
        return result

    def __iter__(self):
        return iter(self._units)

    def __len__(self):
        return len(self._units)


@contextmanager
def in_one_sentence(unit: Unit):
    """End this process with one sentence if a unit cannot be done; a mistake of ours keeps its traceback."""
    try:
        yield
    except LoupeError as error:
        sys.exit(f"loupe: {error}")
    except CheckpointError as error:
        print(f"loupe: {unit}: {error}.", file=sys.stderr, flush=True)
        sys.exit(UNUSABLE_CHECKPOINT)
    except ValueError as error:  # of a value that the settings or the data led to
        sys.exit(f"loupe: {unit}: {' '.join(str(error).split()).rstrip('.')}.")


def best_device() -> str:
    """``cuda`` where a GPU can be used, else ``cpu``; torch is only asked where a driver is present."""
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# --- places -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A unit's folder for checkpoints, its log, and the lock that keeps every other run here from the same result.

    The lock belongs to the open file: a process that inherits it holds it too, and it is free when the last of them
    has closed it or was killed.
    """

    folder: Path
    log: Path
    lock: IO

    def leave(self, *, done: bool) -> None:
        """Free the place; its folder and log are removed if the unit is done and else kept for the next attempt."""
        if done:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.log.unlink(missing_ok=True)
        self.lock.close()


def take_place(unit: Unit, store: Store, code: Mapping[str, str]) -> Place | None:
    """The place of a unit, or ``None`` while another run has it.

    The folder's name carries the settings, the code that the experiment can reach and the versions beneath it, so that
    an attempt only goes on from what it would have done itself; what the same result left under others is removed.

    Raises
    ------
    StoreError
        If the folder cannot be made.
    """
    folder = folder_of(unit, store, code)
    home, name = folder.parent, folder.name.partition(".")[0]
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = open(home / f"{name}.lock", "wb")  # noqa: SIM115 (it outlives this function)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for old in set(home.glob(f"{name}.*-*")) - {folder}:
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(exist_ok=True)
        except OSError:
            lock.close()
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        raise cannot_write(folder, error) from None
    return Place(folder, home / f"{name}.log", lock)


def folder_of(unit: Unit, store: Store, code: Mapping[str, str]) -> Path:
    content = json.dumps([dict(code), *(version(package) for package in ("numpy", "torch"))])
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    name = f"{store.path(unit).stem}.{unit.config.digest()}-{digest}"
    return store.work / unit.preset / unit.slug / name


# --- starting and ending one --------------------------------------------------------------------------------


@cache
def _context():
    return multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def start_server(modules: Iterable[str]) -> None:
    """Start the server, with these modules imported, unless this process has one."""
    context = _context()
    if context.get_start_method() != "forkserver":
        return
    loaded = [name for name in sys.modules if name.startswith("loupe.")]
    context.set_forkserver_preload([*loaded, *modules])
    with _one_thread_and_no_script():
        resource_tracker.ensure_running()  # the server would start it, and that leaves signals unblocked
        with _no_interrupt():
            forkserver.ensure_running()


class _Held:
    """An open file that a unit's process inherits, so that a lock on it lasts until both are gone."""

    def __init__(self, file: IO):
        self.file = file

    def __getstate__(self):
        return reduction.DupFd(self.file.fileno())

    def __setstate__(self, descriptor):
        self.file = os.fdopen(descriptor.detach(), "wb")


def start(unit: Unit, store: Store, device: str | None, place: Place, code: Mapping[str, str]):
    """Start a unit in its ``place``; what it prints goes to the log there.

    Returns
    -------
    multiprocessing.Process
        In a session of its own, so that Ctrl-C reaches this process alone. It ends when this one is gone.
    """
    environment = os.environ | _ONE_THREAD
    told = (unit, store, device, place.folder, place.log, code, environment, _Held(place.lock))
    process = _context().Process(target=_main, args=told)
    with _one_thread_and_no_script():
        process.start()
    return process


@contextmanager
def _no_interrupt():
    # The server, still importing, would end with a traceback at a Ctrl-C, which is for this process.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def _one_thread_and_no_script():
    # A unit needs nothing of the script that started it, which would be run again where it has no guard.
    script, environment = sys.modules["__main__"], dict(os.environ)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update(_QUIET | environment | _ONE_THREAD)
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        os.environ.clear()
        os.environ.update(environment)


def _main(unit, store, device, work, log, code, environment, held):
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # what _no_interrupt held
    _nice_as_a_group()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_without_parent, daemon=True).start()
    gc.freeze()  # else each unit visits what it shares with the server
    with in_one_sentence(unit):
        run_unit(unit, store, device or best_device(), work, code)


def _nice_as_a_group():
    # Linux shares the processor between sessions first: niceness counts for nothing outside a process's own.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(os.nice(0)), encoding="utf-8")


def _end_without_parent():
    connection.wait([multiprocessing.parent_process().sentinel])
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def end(processes: Iterable) -> None:
    """End units with all that they started: first kindly, so that they may save what they have."""
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    try:
        for process in alive:
            process.join(max(0, deadline - time.monotonic()))
    finally:
        for process in alive:
            if process.is_alive():
                kill(process)


def kill(process) -> None:
    """End a unit with all that it started, at once."""
    _signal(process, signal.SIGKILL)
    process.join()


def _signal(process, sign: signal.Signals) -> None:
    for send in (os.killpg, os.kill):  # it may have no session yet
        with suppress(ProcessLookupError):  # or has just ended
            return send(process.pid, sign)
