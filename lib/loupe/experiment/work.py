"""Places in which units run: one run at a time, with a folder for checkpoints."""

import fcntl
import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from loupe.experiment import provenance
from loupe.experiment.closure import read_sources
from loupe.experiment.store import Store, cannot_write
from loupe.experiment.units import Unit


@dataclass(frozen=True)
class Place:
    """A unit's folder, and the lock that keeps every other run on this machine from the same result.

    The lock belongs to the open file: a process that inherits it holds it too, and it is free when the last of them
    has closed it or was killed.
    """

    folder: Path
    lock: IO

    def leave(self, *, done: bool) -> None:
        """Free the place; its folder is removed if the unit is done and else kept for the next attempt."""
        if done:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()


def take_place(unit: Unit, store: Store) -> Place | None:
    """The place of a unit, or ``None`` while another run has it.

    The folder's name carries the settings, the code that the experiment can reach and the versions beneath it, so that
    an attempt only goes on from what it would have done itself; what the same result left under others is removed.

    Raises
    ------
    StoreError
        If the folder cannot be made.
    """
    home, name = store.work / unit.preset / unit.slug, store.path(unit).stem
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = open(home / f"{name}.lock", "wb")  # noqa: SIM115 (it outlives this function)
    except OSError as error:
        raise cannot_write(home / f"{name}.lock", error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    folder = home / f"{name}.{unit.config.digest()}-{code_digest(unit)}"
    for old in home.glob(f"{name}.*-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        lock.close()
        raise cannot_write(folder, error) from None
    return Place(folder, lock)


def code_digest(unit: Unit) -> str:
    """Eight hexadecimal digits for the code that a unit can reach, and the versions beneath it."""
    code = provenance.code_digests(unit.slug, unit.experiment)
    content = json.dumps([code, *(version(package) for package in ("numpy", "torch"))])
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def sources_digest() -> str:
    """Eight hexadecimal digits for the sources of the whole package as they are now."""
    return hashlib.sha256(repr(sorted(read_sources().items())).encode()).hexdigest()[:8]
