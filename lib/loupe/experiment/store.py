"""Results on disk: arrays in ``.npz``, numbers and provenance in ``.json`` beside it, never pickled.

``results/PRESET/SLUG/EXPERIMENT-sSEED.{npz,json}`` holds the published results. Smoke runs, overrides and odd
seeds go to ``.loupe/results/``, same layout, with the digest of the configuration in the name.
A result exists when both files do; each is written whole or not at all.
"""

import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from loupe.errors import LoupeError
from loupe.experiment.folders import Folders, StoreError, show_path
from loupe.experiment.units import Unit


class MissingValueError(LoupeError, KeyError):
    """A result without a value that is asked of it, as those made by older code may be."""

    __str__ = Exception.__str__  # KeyError would show quotes around the sentence


@dataclass(frozen=True)
class Result(Mapping):
    """The stored values of one unit: a read-only mapping from name to array, number or string.

    ``settings`` are the fields of the configuration that the experiment read, ``provenance`` says what made
    it. Arrays are read from disk, and checked against the digest in the sidecar, on first use.
    """

    path: Path
    experiment: str
    seed: int
    settings: dict[str, Any]
    provenance: dict[str, Any]
    numbers: dict[str, Any]
    npz_sha256: str
    remedy: str

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        data = self.path.with_suffix(".npz")
        try:
            content = data.read_bytes()
        except OSError as error:
            raise damaged(data, error.strerror, self.remedy) from None
        if hashlib.sha256(content).hexdigest() != self.npz_sha256:
            raise damaged(data, "its content does not match the digest in the .json beside it", self.remedy)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def __getitem__(self, name: str):
        if name in self.numbers:
            return self.numbers[name]
        if name in self._arrays:
            return self._arrays[name]
        raise MissingValueError(
            f"{show_path(self.path)} holds no {name!r}, only {', '.join(self)}: it may be of other code; type "
            f"`{self.remedy} --recompute`."
        )

    def __iter__(self):
        return iter([*self.numbers, *self._arrays])

    def __len__(self):
        return len(self.numbers) + len(self._arrays)

    def check(self) -> None:
        """Read the arrays and compare their digest now.

        Raises
        ------
        StoreError
            If a file is damaged.
        """
        _ = self._arrays


def damaged(path: Path, why: str, remedy: str) -> StoreError:
    """The error for a file that is there but cannot be trusted."""
    return StoreError(f"{show_path(path)} is damaged ({why}): restore it from git, or type `{remedy}`.")


def compute_command(unit: Unit) -> str:
    """What to type to compute a unit's experiment at its preset."""
    return f"loupe compute {unit.slug} --preset {unit.preset}"


class Store(Folders):
    """The results in the two folders: find one, write one."""

    def path(self, unit: Unit) -> Path:
        """Where the unit's result belongs: the ``.json``; the ``.npz`` lies beside it."""
        if unit.published:
            return self.published / unit.preset / unit.slug / f"{unit.experiment}-s{unit.seed}.json"
        name = f"{unit.experiment}-s{unit.seed}-{unit.config.digest()}.json"
        return self.scratch / unit.preset / unit.slug / name

    def find(self, unit: Unit) -> Result | None:
        """The stored result of this experiment, seed and configuration, or ``None``.

        A published result also serves a run with overrides that its experiment does not read.

        Raises
        ------
        StoreError
            If a file is there but damaged.
        """
        own = self.path(unit)
        official = self.published / unit.preset / unit.slug / f"{unit.experiment}-s{unit.seed}.json"
        for path in dict.fromkeys((own, official)):
            result = read_result(path, compute_command(unit))
            if result is not None and unit.config.settings(result.settings) == result.settings:
                return result
        return None

    def write(self, unit: Unit, values: Mapping[str, Any], *, settings: dict, provenance: dict) -> Path:
        """Store a unit's values, whole or not at all, and return the path of its ``.json``.

        Both files are complete on disk under temporary names before the first is moved into place, so a full
        disk or a kill leaves the earlier result. In the instant between the moves there is no result.
        """
        numbers, arrays = _split(unit, values)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        sidecar = {
            "slug": unit.slug,
            "experiment": unit.experiment,
            "preset": unit.preset,
            "seed": unit.seed,
            "settings": settings,
            "numbers": {name: _encode(number) for name, number in numbers.items()},
            "arrays": {name: f"{array.dtype} {list(array.shape)}" for name, array in arrays.items()},
            "npz_sha256": hashlib.sha256(buffer.getbuffer()).hexdigest(),
            "provenance": provenance,
        }
        path = self.path(unit)
        try:
            new_npz = write_temporary(path.with_suffix(".npz"), buffer.getvalue())
            new_json = write_temporary(path, json.dumps(sidecar, indent=1, allow_nan=False).encode() + b"\n")
            path.unlink(missing_ok=True)
            new_npz.replace(path.with_suffix(".npz"))
            new_json.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from None
        return path


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a file that could not be written."""
    return StoreError(
        f"could not write {show_path(path)} ({error.strerror or error}): make room there, or set LOUPE_RESULTS to a "
        "folder that you can write to, and type the command again; results finished before are kept."
    )


def write_temporary(path: Path, content: bytes) -> Path:
    """Write ``content`` to a temporary file beside ``path``, flushed to the disk, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by ``content`` in one step: readers see the old or the new, never a part."""
    try:
        write_temporary(path, content).replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None


def probe_folders(folders: Iterable[Path]) -> None:
    """Make sure that results can be written, before hours are spent on them."""
    for folder in set(folders):
        write_whole(folder / ".probe", b"")
        (folder / ".probe").unlink(missing_ok=True)


def read_result(path: Path, remedy: str) -> Result | None:
    """The result whose ``.json`` lies at ``path``; ``None`` if there is none."""
    try:
        sidecar = json.loads(path.read_text())
        return Result(
            path=path,
            experiment=sidecar["experiment"],
            seed=sidecar["seed"],
            settings=sidecar["settings"],
            provenance=sidecar["provenance"],
            numbers={name: _decode(number) for name, number in sidecar["numbers"].items()},
            npz_sha256=sidecar["npz_sha256"],
            remedy=remedy,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", remedy) from None


def _encode(number: Any) -> Any:
    # JSON has no nan and no infinity.
    return {"not finite": str(number)} if isinstance(number, float) and not math.isfinite(number) else number


def _decode(number: Any) -> Any:
    return float(number["not finite"]) if isinstance(number, dict) else number


def _split(unit: Unit, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers and strings for the sidecar, arrays for the npz; anything else is our own mistake."""
    numbers, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool | int | float | str):
            numbers[name] = value
            continue
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(
                f"{unit} returned {name!r} of type {type(value).__name__}; return arrays, numbers, strings"
            )
        arrays[name] = array
    return numbers, arrays
