"""One unit in many processes: what ``torchrun`` started goes through the units together, the first process in front.

The processes talk through the key-value store that ``torchrun`` keeps while they run. The processes of a unit then
form a group of their own on another port, so that a unit that breaks leaves nothing behind for the next one.
"""

import atexit
import json
import os
import re
import socket
import time
from contextlib import suppress
from functools import cache

from loupe.errors import LoupeError, shown

_PAUSE = 0.05


def processes() -> int:
    """How many processes work together; 1 without ``torchrun``."""
    count = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", count):
        raise LoupeError(
            f"WORLD_SIZE={shown(count)} is no number of processes: take it out of the environment."
        )
    return int(count)


def rank() -> int:
    """The number of this process among them; the first, 0, plans, writes and reports."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


@cache
def join() -> "Group | None":
    """The group of this process, or ``None`` if it is alone."""
    return Group() if processes() > 1 else None


class Group:
    """The processes that ``torchrun`` started, on one machine or several that share a file system.

    Raises
    ------
    LoupeError
        If the environment speaks of several processes, but they were started by something else.
    """

    def __init__(self):
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            raise LoupeError(
                f"WORLD_SIZE={processes()} says that this is one of several processes, but torchrun did not start it: "
                "start it by torchrun, or take WORLD_SIZE out of the environment."
            )
        from torch.distributed import PrefixStore, TCPStore  # a second to import, and only needed here

        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        self._store = PrefixStore(f"loupe-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self._turn = 0
        if rank() == 0:
            atexit.register(self._end)  # only then: several chapters may follow each other

    def announce(self, request: dict) -> dict[str, str]:
        """Tell the other processes which unit is next; returns the environment of this one's part of it."""
        port = _free_port()
        self._publish({"request": request, "port": port})
        return _environment(port)

    def next(self) -> tuple[dict, dict[str, str]] | None:
        """Wait until the first process announces a unit: its request and environment, or ``None`` at the end."""
        self._wait(self._key("unit"))
        call = json.loads(self._store.get(self._key("unit")))
        return call and (call["request"], _environment(call["port"]))

    def broken(self) -> bool:
        """Whether the unit has failed in any process."""
        return self._is_there(self._key("broken"))

    def conclude(self, why: str) -> str:
        """Say how the unit ended here, wait until it has ended everywhere, and return why it failed, if it did.

        Where one process gives a sentence, what others say of its sudden end is left out.
        """
        self._store.set(self._key(rank()), why)
        if why:
            self._store.set(self._key("broken"), "")
        keys = [self._key(number) for number in range(processes())]
        self._wait(*keys)
        reasons = [reason for key in keys if (reason := self._store.get(key).decode())]
        self._turn += 1
        return " ".join(dict.fromkeys([reason for reason in reasons if "\n" not in reason] or reasons))

    def _publish(self, call: dict | None) -> None:
        self._store.set(self._key("unit"), json.dumps(call))

    def _end(self) -> None:
        with suppress(RuntimeError):  # the others have ended with torchrun
            self._publish(None)

    def _key(self, word: str | int) -> str:
        return f"{self._turn}/{word}"

    def _wait(self, *keys: str) -> None:
        while not self._is_there(*keys):  # a unit may take hours, and the store's own waiting ends sooner
            time.sleep(_PAUSE)

    def _is_there(self, *keys: str) -> bool:
        try:
            return self._store.check(list(keys))
        except RuntimeError:
            raise LoupeError(
                "torchrun has ended: what was finished is stored, and the same command goes on with the rest."
            ) from None


def _environment(port: int) -> dict[str, str]:
    return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
