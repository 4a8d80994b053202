"""Starting units, each in a single-thread process of its own.

On Linux these are forked from a process that has imported the chapter and parsed the sources already, which takes
longer than a short unit does. CUDA does not survive a fork, and macOS libraries may not: there each unit starts afresh.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import IO, Protocol

from loupe.experiment.work import sources_digest

_ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
_PAUSE = 0.05


class UnitProcess(Protocol):
    """A process in a session of its own, in the words of ``subprocess.Popen``; ``log`` has its standard error."""

    pid: int
    returncode: int | None
    log: IO[str]

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Launcher:
    """Starts units; what it started should be over when it is closed, and is ended if it is not."""

    def __init__(self):
        self._servers: dict[str, _Server] = {}

    def start(
        self, request: dict, environment: Mapping[str, str], inherited: Iterable[int] = ()
    ) -> UnitProcess:
        """Start a unit by the sources as they are now; ``inherited`` file descriptors stay open in it."""
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (a pipe would stall a talkative unit)
        if sys.platform != "linux" or Path("/dev/nvidiactl").exists():
            process = _open(os.environ | _ONE_THREAD | environment, subprocess.PIPE, log, inherited)
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            process.log = log
            return process
        sources = sources_digest()
        if sources not in self._servers:
            self._servers[sources] = _Server()
        return self._servers[sources].fork(request, environment, log, inherited)

    def close(self) -> None:
        """End the processes from which units were forked."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()


def _open(
    environment: Mapping[str, str], stdin: IO | int, log: IO[str] | int, inherited: Iterable[int]
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "loupe.experiment.unit_process"],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=log,
        encoding="utf-8",
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
        pass_fds=inherited,
    )


class _Server:
    """The process that forks: it is asked through a socket, and ends when that closes."""

    def __init__(self):
        self._calls, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _open(os.environ | _ONE_THREAD, theirs, subprocess.DEVNULL, ())

    def fork(
        self, request: dict, environment: Mapping[str, str], log: IO[str], inherited: Iterable[int]
    ) -> "_Forked":
        life, theirs = os.pipe()
        call = json.dumps({"request": request, "environment": dict(environment)}).encode()
        try:
            with suppress(ConnectionError):  # then the unit reads as killed
                socket.send_fds(self._calls, [call], [theirs, log.fileno(), *inherited])
        finally:
            os.close(theirs)
        return _Forked(life, log)

    def close(self) -> None:
        self._calls.close()
        self._process.wait()


class _Forked:
    """A process that is not our child: a pipe tells its number, and at the end its exit status."""

    def __init__(self, life: int, log: IO[str]):
        self.returncode, self.log = None, log
        self._life, self._heard = life, b""
        os.set_blocking(life, False)

    @property
    def pid(self) -> int:
        """The number of the process; waits for it to begin."""
        while b"\n" not in self._heard and self.poll() is None:
            time.sleep(_PAUSE)
        if b"\n" not in self._heard:
            raise ProcessLookupError("the unit never began.")
        return int(self._heard.partition(b"\n")[0])

    def poll(self) -> int | None:
        while self.returncode is None:
            try:
                more = os.read(self._life, 100)
            except BlockingIOError:
                break
            self._heard += more
            if not more:  # nothing was said of the end if the server was killed, and the unit with it
                self.returncode = int(self._heard.partition(b"\n")[2] or -SIGKILL)
                os.close(self._life)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("unit", timeout)
            time.sleep(_PAUSE)
        return self.returncode
