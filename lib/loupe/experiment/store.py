"""Results on disk: arrays in an ``.npz``, numbers and provenance in the ``.json`` that names it, never pickled.

``results/PRESET/SLUG/EXPERIMENT-sSEED.json`` and ``EXPERIMENT-sSEED.DIGEST.npz`` hold a published result. Smoke runs,
overrides and odd seeds go to ``.loupe/results/``, same layout, with the digest of the configuration in the name.
The json names its unit and holds digests of the arrays and of its own content; both are checked at every read. It moves
into place last, so readers see either the old result or the new one.
"""

import hashlib
import io
import json
import math
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from loupe.errors import LoupeError, shortened
from loupe.experiment import folders
from loupe.experiment.folders import Folders, StoreError, damaged, write_whole
from loupe.experiment.units import Unit

_FOREIGN = (ValueError, LookupError, TypeError, OSError, EOFError)  # arrays that are not arrays
_AT_WORK = 60  # seconds for which a draft may belong to an unfinished write


class MissingValueError(LoupeError, KeyError):
    """A result lacks a requested value, as results of older code may."""

    __str__ = Exception.__str__  # KeyError would show quotes around the sentence


@dataclass(frozen=True)
class Result(Mapping):
    """The stored values of one unit: a read-only mapping from name to array, number or string.

    ``settings`` are the configuration fields that the experiment read, ``provenance`` says what made it, and ``sha256``
    identifies all of it. Arrays are unpacked on first use; their bytes are checked when the result is read.
    """

    path: Path
    slug: str
    preset: str
    experiment: str
    seed: int
    settings: dict[str, Any]
    provenance: dict[str, Any]
    numbers: dict[str, Any]
    shapes: dict[str, str]
    sha256: str
    remedy: str
    npz: str
    packed: bytes = field(repr=False)

    @property
    def finished(self) -> str:
        """The time when it was computed, in ISO 8601; empty if unknown."""
        return self.provenance.get("finished", "")

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        try:
            with zipfile.ZipFile(io.BytesIO(self.packed)) as archive:
                size = sum(part.file_size for part in archive.infolist())
            if size > _most_bytes(self.shapes):
                raise ValueError(f"it would unpack to {size} bytes")
            with np.load(io.BytesIO(self.packed), allow_pickle=False) as arrays:
                return dict(arrays)
        except (*_FOREIGN, zipfile.BadZipFile, zlib.error) as error:
            raise damaged(self.path, f"arrays: {error}", self.remedy) from None

    def __getitem__(self, name: str):
        if name in self.numbers:
            return self.numbers[name]
        if name in self.shapes:
            return self._arrays[name]
        names = shortened(", ".join(self), 200)
        raise MissingValueError(
            f"{folders.show_path(self.path)} holds no {name!r}, only {names}: it may be of other code; type "
            f"`{self.remedy} --recompute`."
        )

    def __iter__(self):
        return iter([*self.numbers, *self.shapes])

    def __len__(self):
        return len(self.numbers) + len(self.shapes)

    def __bool__(self):
        return True  # a result without values is still a result


def _most_bytes(shapes: Mapping[str, str]) -> int:
    """The size of all arrays according to the sidecar, with room for headers."""
    described = [text.partition(" ") for text in shapes.values()]
    return sum(np.dtype(kind).itemsize * math.prod(json.loads(shape)) + 4096 for kind, _, shape in described)


def compute_command(unit: Unit) -> str:
    """The command that computes a unit's experiment at its preset."""
    return f"loupe compute {unit.slug} --preset {unit.preset}"


class Store(Folders):
    """The results in the two folders: find one, write one."""

    def path(self, unit: Unit) -> Path:
        """The path of a unit's ``.json``; the ``.npz`` is next to it."""
        if unit.published:
            return self._official(unit)
        name = f"{unit.experiment}-s{unit.seed}-{unit.config.digest()}.json"
        return self.scratch / unit.preset / unit.slug / name

    def _official(self, unit: Unit) -> Path:
        return self.published / unit.preset / unit.slug / f"{unit.experiment}-s{unit.seed}.json"

    def find(self, unit: Unit) -> Result | None:
        """The stored result of this experiment, seed and configuration, or ``None``.

        A published result is also valid for a run with overrides that its experiment does not read.

        Raises
        ------
        StoreError
            If a file exists but is damaged, or is the result of another unit.
        """
        for path in dict.fromkeys((self.path(unit), self._official(unit))):
            result = read_result(path, compute_command(unit))
            if result is None:
                continue
            found = (result.slug, result.preset, result.experiment, result.seed)
            if found != (unit.slug, unit.preset, unit.experiment, unit.seed):
                whose = f"it is the result of {result.experiment} seed {result.seed}, {result.slug} at {result.preset}"
                raise damaged(path, whose, result.remedy)
            if unit.config.settings(result.settings) == result.settings:
                return result
        return None

    def readable(self, unit: Unit) -> Result | None:
        """Like :meth:`find`, but ``None`` for a damaged result."""
        with suppress(StoreError):
            return self.find(unit)

    def write(self, unit: Unit, values: Mapping[str, Any], *, settings: dict, provenance: dict) -> Path:
        """Store a unit's values atomically and return the path of its ``.json``.

        Both files are complete on disk before the json moves into place, which makes the new result visible. A full
        disk or a kill leaves the earlier result; the next write cleans up.
        """
        path = self.path(unit)
        numbers, arrays = _split(unit, values)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        npz = path.with_name(f"{path.stem}.{digest[:16]}.npz")
        sidecar = {name: getattr(unit, name) for name in ("slug", "experiment", "preset", "seed")} | {
            "settings": settings,
            "numbers": {name: _encode(number) for name, number in numbers.items()},
            "arrays": {name: f"{array.dtype} {list(array.shape)}" for name, array in arrays.items()},
            "npz": npz.name,
            "npz_sha256": digest,
            "provenance": provenance,
        }
        _put(path, folders.stamped(sidecar), npz.name, buffer.getvalue())
        return path


def _put(path: Path, sidecar: bytes, npz: str, packed: bytes) -> None:
    write_whole(path.with_name(npz), packed)
    write_whole(path, sidecar)
    _clear_older(path, path.with_name(npz))


def _clear_older(path: Path, npz: Path) -> None:
    """Clean up after earlier writes of the same result: older arrays, and drafts of killed writes."""
    with suppress(OSError):  # it can wait for the next write
        now = npz.stat().st_mtime
        drafts = [old for old in path.parent.glob(f".{path.stem}.*") if old.stat().st_mtime < now - _AT_WORK]
        # Newer arrays belong to another run of the same unit, whose json is still to come.
        arrays = [old for old in path.parent.glob(f"{path.stem}.*npz") if old.stat().st_mtime <= now]
        for old in {*drafts, *arrays} - {npz}:
            old.unlink(missing_ok=True)


def probe_folders(places: Iterable[Path]) -> None:
    """Check that results can be written, before hours of computation."""
    for folder in set(places):
        write_whole(folder / ".probe", b"")
        (folder / ".probe").unlink(missing_ok=True)


def read_result(path: Path, remedy: str) -> Result | None:
    """The result with its ``.json`` at ``path``; ``None`` if there is none.

    Raises
    ------
    StoreError
        If it is damaged: edited, truncated, malformed, or without its arrays.
    """
    before = None
    while (sidecar := folders.read_stamped(path, remedy)) is not None:
        try:
            npz = path.with_name(Path(sidecar["npz"]).name)
            packed = folders.read_whole(npz, remedy)
        except (LookupError, TypeError, ValueError):
            raise damaged(path, "it names no arrays", remedy) from None
        if packed is not None:
            if hashlib.sha256(packed).hexdigest() != sidecar.get("npz_sha256"):
                raise damaged(npz, f"its content does not match the digest in {path.name}", remedy)
            return _result(path, sidecar, npz.name, packed, remedy)
        if sidecar == before:
            raise damaged(path, f"{npz.name} is gone", remedy)
        before = sidecar  # it may have been replaced meanwhile
    return None


_KINDS = dict.fromkeys(("slug", "preset", "experiment"), str) | {"seed": int}
_KINDS |= dict.fromkeys(("settings", "provenance", "numbers", "arrays"), dict)


def _result(path: Path, sidecar: dict[str, Any], npz: str, packed: bytes, remedy: str) -> Result:
    wrong = [name for name, kind in _KINDS.items() if not isinstance(sidecar.get(name), kind)]
    try:
        numbers = {name: _decode(number) for name, number in sidecar["numbers"].items()}
    except (LookupError, TypeError, ValueError, AttributeError):
        wrong.append("numbers")
    if wrong:
        raise damaged(path, f"{wrong[0]} is of the wrong form", remedy)
    fields = {name: sidecar[name] for name in _KINDS if name not in ("numbers", "arrays")}
    fields |= {"numbers": numbers, "shapes": sidecar["arrays"], "sha256": sidecar["sha256"]}
    return Result(path=path, npz=npz, packed=packed, remedy=remedy, **fields)


def _encode(number: Any) -> Any:
    # JSON has no nan and no infinity.
    return {"not finite": str(number)} if isinstance(number, float) and not math.isfinite(number) else number


def _decode(number: Any) -> Any:
    return float(number["not finite"]) if isinstance(number, dict) else number


def _split(unit: Unit, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers and strings for the sidecar, arrays for the npz; anything else is a bug."""
    numbers, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool | int | float | str):
            numbers[name] = value
            continue
        array = np.asarray(value)
        if array.dtype.hasobject:
            what = f"{unit} returned {name!r} of type {type(value).__name__}"
            raise TypeError(f"{what}; return arrays, numbers, strings")
        arrays[name] = array
    return numbers, arrays


# --- results that travel ------------------------------------------------------------------------------------


STORED = "stored already"


def pack_results(store: Store, since: datetime, target: str | Path) -> int:
    """Put published results finished since a time into one zip file; returns their number."""
    buffer, count = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w") as archive:  # its content is already compressed
        for path in sorted(store.published.glob("*/*/*-s*.json")):
            result = read_result(path, "loupe compute")
            if result.finished >= since.isoformat(timespec="seconds"):
                archive.write(path, path.relative_to(store.published))
                archive.writestr(str(path.with_name(result.npz).relative_to(store.published)), result.packed)
                count += 1
    write_whole(Path(target), buffer.getvalue())
    return count


def import_results(store: Store, source: Path) -> Iterator[tuple[Result, str]]:
    """Add results from a file of :func:`pack_results`, or from a folder; later results replace earlier ones.

    Each result's digests and name are checked before it is written.

    Yields
    ------
    tuple of Result and str
        Each result, and its outcome.

    Raises
    ------
    StoreError
        If the source cannot be read or one of its results is damaged; earlier ones have been added.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = source if source.is_dir() else Path(folder)
        try:
            if root != source:
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(root)  # names that lead outside are rejected
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            why = f"{folders.show_path(source)} holds no packed results ({error}): pack them again."
            raise StoreError(why) from None
        for path in sorted(root.glob("*/*/*-s*.json")):
            result = read_result(path, "loupe compute --pack")
            place = Path(result.preset, result.slug, f"{result.experiment}-s{result.seed}.json")
            if path != root / place:
                whose = f"it is the result of {result.experiment} seed {result.seed}"
                raise damaged(path, whose, "loupe compute --pack")
            target = store.published / place
            mine = read_result(target, "loupe compute")
            if mine is None or mine.finished < result.finished:
                _put(target, path.read_bytes(), result.npz, result.packed)
                yield result, "added" if mine is None else "replaced an older one"
            else:
                same = (mine.packed, mine.numbers) == (result.packed, result.numbers)
                yield result, STORED if same else "older than the one stored"
