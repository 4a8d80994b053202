"""The whole catalog, or one set of it, checked file by file."""

from dataclasses import dataclass
from pathlib import Path

from loupe.data.catalog import CATALOG
from loupe.data.digests import digest_fault
from loupe.data.places import Location, cache_root, find, locate, mirror_root, missing_message
from loupe.data.records import DataFile


@dataclass(frozen=True)
class FileCheck:
    """Outcome of one file of :func:`verify`.

    Attributes
    ----------
    name, file : str
        The data set and its ``FOLDER/FILE`` (empty if built in).
    where : str
        ``"built in"``, ``"box"``, ``"mirror"``, ``"cache"`` or ``"missing"``.
    path : pathlib.Path or None
        The file looked at.
    outcome : str
        ``"ok"``, ``"wrong digest"`` or ``"missing"``.
    detail : str
        One sentence that says what to do; empty if ok.
    """

    name: str
    file: str
    where: str
    path: Path | None
    outcome: str
    detail: str = ""


def verify(name=None):
    """Recompute the digests of what is there.

    Parameters
    ----------
    name : str, optional
        One data set; None for the whole catalog.

    Yields
    ------
    FileCheck
        One for each file, as soon as it has been read.

    Raises
    ------
    DataError
        For an unknown name, or if ``LOUPE_DATA`` is not a folder.
    """
    for entry in CATALOG.values() if name is None else (find(name),):
        location = locate(entry.name)
        if location.where == "built in":
            yield FileCheck(entry.name, "", "built in", None, "ok")
        elif location.where == "missing":
            yield from _absent(entry)
        for path in location.paths:
            fault = digest_fault(entry, location, path, fresh=True)
            file = f"{path.parent.name}/{path.name}"
            yield FileCheck(entry.name, file, location.where, path, "wrong digest" if fault else "ok", fault)


def _absent(entry):
    """Checks of a set that is complete nowhere: name the files that are missing, look at the others."""
    roots = [("mirror", mirror_root()), ("cache", cache_root())]
    # Of a public form the files that are read: what they are converted from is not kept.
    for file in entry.files or [DataFile(output) for output in entry.public.outputs]:
        places = [(where, root / file.path) for where, root in roots if root and (root / file.path).is_file()]
        if not places:
            yield FileCheck(entry.name, file.path, "missing", None, "missing", missing_message(entry))
            continue
        where, path = places[0]
        fault = digest_fault(entry, Location(entry.name, where, "loupe", (path,)), path, fresh=True)
        yield FileCheck(entry.name, file.path, where, path, "wrong digest" if fault else "ok", fault)
