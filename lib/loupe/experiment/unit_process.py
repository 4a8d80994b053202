"""One unit in a process of its own: ``python -m loupe.experiment.unit_process`` with a request on standard input.

A process a unit gives true peak memory, the list of modules really used, one thread, and an end that takes no other
unit with it.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import stat
import sys
from contextlib import suppress
from importlib import import_module
from inspect import signature
from pathlib import Path

from loupe.errors import CheckpointError, LoupeError
from loupe.experiment import provenance, ranks
from loupe.experiment.folders import project_root
from loupe.experiment.presets import Reading
from loupe.experiment.store import Store
from loupe.experiment.units import Unit, experiments_of, room_of, units_of

_PAUSE = 0.05

# The exit status that says: remove the unit's checkpoints and start it again.
UNUSABLE_CHECKPOINT = 75


def run_unit(unit: Unit, store: Store, device: str, work: Path) -> Path | None:
    """Compute a unit here and now, store it with its provenance, and return the path of its ``.json``.

    ``work`` is its folder for checkpoints. Of several processes only the first stores; the others return ``None``.
    """
    function = experiments_of(room_of(unit.slug))[unit.experiment]
    reading, cost = Reading(unit.config), {}
    code = provenance.code_digests(
        unit.slug, unit.experiment
    )  # an edit while it runs must not vouch for itself
    commit = provenance.commit(project_root())
    with provenance.measured(cost):
        resumed = any(work.iterdir())
        wants = {"work": work} if "work" in signature(function).parameters else {}
        values = function(reading, seed=unit.seed, device=device, **wants)
    if ranks.rank() > 0:
        return None
    made_by = cost | {
        "commit": commit,
        "code": code,
        "data": provenance.data_read(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(device),
        "device": device,
        "resumed": resumed,  # then the cost is that of the last attempt only
    }
    if ranks.processes() > 1:
        made_by["processes"] = ranks.processes()  # and the cost is that of the first
    return store.write(unit, values, settings=reading.settings_read(), provenance=made_by)


def _end_with_parent() -> None:
    """On Linux, ask to be ended when the process that started this unit is gone, even by SIGKILL."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def best_device() -> str:
    """``cuda`` where a GPU can be used, else ``cpu``; torch is only asked where a driver is present."""
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Read the request, run the unit, and end with one line on standard error if it cannot be done.

    Standard input is the request, or a socket on which requests come: then each is done in a process forked from this.
    """
    _end_with_parent()
    if stat.S_ISSOCK(os.fstat(0).st_mode):
        request = _fork_for_each_request(socket.socket(fileno=0))
        _end_with_parent()
    else:
        request = json.load(sys.stdin)
    name, work = request.pop("name"), Path(request.pop("work"))
    store = Store(Path(request.pop("published")), Path(request.pop("scratch")))
    device = request.pop("device") or best_device()
    if device == "cuda" and ranks.processes() > 1:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        (unit,) = units_of(room_of(request.pop("slug")), **request)
        os.environ["LOUPE_UNIT"] = (
            f"{unit} with settings {unit.config.digest()}"  # written into its checkpoints
        )
        run_unit(unit, store, device, work)
    except LoupeError as error:
        sys.exit(f"loupe: {error}")
    except CheckpointError as error:
        print(f"loupe: {name}: {error}.", file=sys.stderr)
        sys.exit(UNUSABLE_CHECKPOINT)
    except ValueError as error:
        # Of a value that the settings or the data led to: a sentence. A mistake of ours keeps its traceback.
        sys.exit(f"loupe: {name}: {' '.join(str(error).split()).rstrip('.')}.")


def _fork_for_each_request(calls: socket.socket) -> dict:
    """Answer calls until the socket closes; this returns in the forked processes only, in each with its request.

    With a call come a pipe, which is told the number of the process and at the end its exit status, the file for
    standard error, and what else is to stay open.
    """
    lives: dict[int, int] = {}
    while True:
        if lives and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            with suppress(BrokenPipeError):
                os.write(lives[pid], str(os.waitstatus_to_exitcode(status)).encode())
            os.close(lives.pop(pid))
        if not select.select([calls], [], [], _PAUSE)[0]:
            continue
        message, files, *_ = socket.recv_fds(calls, 2**20, 8)
        if not message:
            sys.exit()
        call, (life, log, *others) = json.loads(message), files
        with suppress(Exception):  # it will be raised again where there is a log
            room_of(call["request"]["slug"])
            provenance.freeze_sources()
            provenance.code_digests(
                call["request"]["slug"], call["request"]["experiment"]
            )  # parses, once for all
            if "torch" in sys.modules:
                import_module("torch._dynamo")  # else each unit that trains would, for a second
        gc.freeze()  # else each unit visits, at its end, all that it shares
        pid = os.fork()
        if pid == 0:
            os.setsid()
            calls.close()
            os.open(os.devnull, os.O_RDONLY)  # the socket was standard input
            os.dup2(log, 2)
            os.write(life, f"{os.getpid()}\n".encode())
            for file in (life, log, *lives.values()):
                os.close(file)
            os.environ.update(call["environment"])
            return call["request"]
        lives[pid] = life
        for file in (log, *others):
            os.close(file)


if __name__ == "__main__":
    main()
