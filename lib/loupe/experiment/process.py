"""Run one unit in its own process: true peak memory, one thread, and a crash affects no other unit.

The standard library forks it from a server that has already imported the chapter, since the import takes longer than a
short unit. On macOS, whose libraries may not survive a fork, each process starts from scratch.
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
from contextlib import ExitStack, contextmanager, suppress
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

# Exit status: remove the unit's checkpoints and start it again.
UNUSABLE_CHECKPOINT = 75

# Exit status that the standard library reports for a unit whose server was killed.
NO_SERVER = 255

GRACE = 30.0
"""Seconds that a stopped unit has to save its state, as with Slurm."""

_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}

# The progress-bar library takes a semaphore; silence the warning about that of a stopped unit.
_QUIET = {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}


def run_unit(unit: Unit, store: Store, device: str, work: Path, code: Mapping[str, str]) -> Path | None:
    """Compute a unit in this process, store it with its provenance, and return the path of its ``.json``.

    ``work`` is its folder for checkpoints, ``code`` the digests of its sources at import. Under ``torchrun`` only rank
    0 stores; the others return ``None``.
    """
    function = experiments_of(unit.room)[unit.experiment]
    reading, cost = Reading(unit.config), {}
    commit = provenance.commit(project_root())
    wants, earlier = {}, {}
    if "work" in signature(function).parameters:
        wants["work"] = work
    if unit.before():
        wants["earlier"] = earlier = _earlier(unit, store, reading)
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
        **({"earlier": {name: one.npz for name, one in earlier.items()}} if earlier else {}),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(device),
        "device": device,
        "resumed": resumed,  # then the cost is that of the last attempt only
    }
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        made_by["processes"] = processes  # and the cost is that of the first
    return store.write(unit, values, settings=reading.settings_read(), provenance=made_by)


def _earlier(unit: Unit, store: Store, reading: Reading) -> dict[str, Result]:
    """The stored results that a unit starts from, by name; their settings count as read by it.

    Raises
    ------
    LoupeError
        If one is missing; the message names the command that computes it.
    """
    found = {}
    for before in unit.before():
        name, result = before.experiment, store.find(before)
        if result is None:
            raise LoupeError(
                f"{unit} starts from {name} seed {before.seed}, which is not stored: type "
                f"`{compute_command(before)} --experiment {name}` first."
            )
        for field in result.settings:
            getattr(reading, field)
        found[name] = result
    return found


@contextmanager
def in_one_sentence(unit: Unit):
    """Exit with one sentence if a unit cannot be computed; our own bugs keep their traceback."""
    try:
        yield
    except LoupeError as error:
        sys.exit(f"loupe: {error}")
    except CheckpointError as error:
        print(f"loupe: {unit}: {error}.", file=sys.stderr, flush=True)
        sys.exit(UNUSABLE_CHECKPOINT)
    except ValueError as error:  # from a value in the settings or the data
        sys.exit(f"loupe: {unit}: {' '.join(str(error).split()).rstrip('.')}.")


def best_device() -> str:
    """``cuda`` if a GPU is usable, else ``cpu``; torch is only imported if there is a driver."""
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# --- places -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A unit's checkpoint folder, its log, and a lock against other runs on this machine.

    The lock belongs to the open file: child processes that inherit it hold it too, and it is released when all of them
    have closed it or died.
    """

    folder: Path
    log: Path
    lock: IO

    def leave(self, *, done: bool) -> None:
        """Release the place; its folder and log are removed if the unit is done, otherwise kept for the next attempt."""
        if done:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.log.unlink(missing_ok=True)
        self.lock.close()


def take_place(unit: Unit, store: Store, code: Mapping[str, str]) -> Place | None:
    """The place of a unit, or ``None`` while another run has it.

    The folder's name is a digest of the settings, the reachable code and the package versions, so an attempt only
    resumes from its own checkpoints; folders of the same result under other digests are removed.

    Raises
    ------
    StoreError
        If the folder cannot be made.
    """
    folder = folder_of(unit, store, code)
    home, name = folder.parent, folder.name.partition(".")[0]
    with ExitStack() as opened:
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context(open(home / f"{name}.lock", "wb"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for old in set(home.glob(f"{name}.*-*")) - {folder}:
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(exist_ok=True)
        except BlockingIOError:
            return None
        except OSError as error:
            raise cannot_write(folder, error) from None
        opened.pop_all()  # the lock stays open
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
    """Start the server, with these modules imported, unless this process already has one."""
    context = _context()
    if context.get_start_method() != "forkserver":
        return
    loaded = [name for name in sys.modules if name.startswith("loupe.")]
    context.set_forkserver_preload([*loaded, *modules])
    with _one_thread_and_no_script():
        resource_tracker.ensure_running()  # otherwise the server starts it with unblocked signals
        # A Ctrl-C is for this process; the server, still importing, would end with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Held:
    """An open file that a unit's process inherits, so that its lock lasts until both have ended."""

    def __init__(self, file: IO):
        self.file = file

    def __getstate__(self):
        return reduction.DupFd(self.file.fileno())

    def __setstate__(self, descriptor):
        self.file = os.fdopen(descriptor.detach(), "wb")


def start(unit: Unit, store: Store, device: str | None, place: Place, code: Mapping[str, str]):
    """Start a unit in its ``place``; its output goes to the log there.

    Returns
    -------
    multiprocessing.Process
        It has its own session, so that Ctrl-C reaches this process only. It ends when this one does.
    """
    environment = os.environ | _ONE_THREAD
    arguments = (unit, store, device, place.folder, place.log, code, environment, _Held(place.lock))
    process = _context().Process(target=_main, args=arguments)
    with _one_thread_and_no_script():
        process.start()
    return process


@contextmanager
def _one_thread_and_no_script():
    # A unit does not need the main script, which would run again if it has no __main__ guard.
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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # start_server blocked it
    _nice_as_a_group()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_without_parent, daemon=True).start()
    gc.freeze()  # otherwise each unit's garbage collector touches pages shared with the server
    with in_one_sentence(unit):
        run_unit(unit, store, device or best_device(), work, code)


def _nice_as_a_group():
    # Linux schedules between sessions first: niceness only counts within a session.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(os.nice(0)), encoding="utf-8")


def _end_without_parent():
    connection.wait([multiprocessing.parent_process().sentinel])
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def end(processes: Iterable) -> None:
    """Stop units and their children: first with SIGTERM, so that they can save their state."""
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
    """Kill a unit and its children at once."""
    _signal(process, signal.SIGKILL)
    process.join()


def _signal(process, sign: signal.Signals) -> None:
    for send in (os.killpg, os.kill):  # it may not have a session yet
        with suppress(ProcessLookupError):  # or has just ended
            return send(process.pid, sign)
