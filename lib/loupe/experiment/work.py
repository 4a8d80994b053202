"""Places in which units run: one run at a time, with a folder for checkpoints."""

import fcntl
import hashlib
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from loupe.experiment.store import Store
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

    The folder's name carries the settings, and the sources of the package and the versions beneath it, so that an
    attempt only goes on from what it would have done itself; what the same result left behind under others is removed.
    """
    home = store.work / unit.preset / unit.slug
    home.mkdir(parents=True, exist_ok=True)
    name = store.path(unit).stem
    lock = open(home / f"{name}.lock", "w")  # noqa: SIM115 (it outlives this function)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    folder = home / f"{name}.{unit.config.digest()}-{sources_digest()}"
    for old in home.glob(f"{name}.*-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return Place(folder, lock)


def sources_digest() -> str:
    """Eight hexadecimal digits for the sources of the package as they are now, and the versions beneath it."""
    content = hashlib.sha256("".join(version(package) for package in ("numpy", "torch")).encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()[:8]
