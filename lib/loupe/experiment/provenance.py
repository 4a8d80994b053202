"""Provenance of results: code, data, versions, hardware, time and memory; and which results are out of date.

Code is identified by digests of everything the experiment can reach in the package; see
:mod:`loupe.experiment.closure`. If today's digests differ, the result was made by "other code".
"""

import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from loupe.errors import LoupeError
from loupe.experiment import closure
from loupe.experiment.folders import StoreError
from loupe.experiment.store import Result, Store
from loupe.experiment.units import Unit

# Packages whose versions are recorded if the experiment imported them, by module name.
_PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "sklearn": "scikit-learn",
    "gudhi": "gudhi",
}


# --- code ---------------------------------------------------------------------------------------------------


_frozen: dict[str, str] = {}


def freeze_sources() -> None:
    """Fix this process's digests to the current sources of the package, even if the files change later.

    Raises
    ------
    LoupeError
        If they were fixed before and the files have changed since.
    """
    sources = closure.read_sources()
    if _frozen and _frozen != sources:
        raise LoupeError(
            "the package was edited after this process began to compute: start it again (a notebook: its kernel)."
        )
    _frozen.update(sources)


def code_digests(
    slug: str, experiment: str, words: Iterable[str], sources: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The identity of an experiment's code: its name, a digest for each module in its closure, and its datasets.

    The closure has only readers of datasets that the code or the ``words`` of its settings name.
    """
    sources = sources or _frozen or closure.read_sources()
    found = closure.Closure(sources, slug, experiment, words)
    return {"experiment": f"{slug}:{experiment}", "data sets": " ".join(found.taken())} | found.digests()


def code_of(unit: Unit, sources: Mapping[str, str] | None = None) -> dict[str, str]:
    """The :func:`code_digests` of a unit with its settings."""
    words = re.findall(r"\w+", unit.config.model_dump_json())
    return code_digests(unit.slug, unit.experiment, words, sources)


def is_current(code: Mapping[str, str], sources: Mapping[str, str] | None = None) -> bool:
    """Whether a result's recorded code is the same today."""
    slug, _, experiment = code.get("experiment", "").partition(":")
    return code == code_digests(slug, experiment, code.get("data sets", "").split(), sources)


def data_read() -> dict[str, str]:
    """The sha256 of every data file that this process has read, by ``FOLDER/FILE``."""
    reader = sys.modules.get("loupe.data.places")  # not loaded: no data
    return reader.files_read() if reader else {}


@contextmanager
def only_named_data(code: Mapping[str, str]):
    """Raise if a run loads a dataset whose reader is not in its recorded ``code``.

    Raises
    ------
    LoupeError
        If neither the settings nor the code named the set.
    """
    places = import_module("loupe.data.places")
    places.loaded.clear()
    yield
    if unnamed := places.loaded - set(code["data sets"].split()):
        raise LoupeError(
            f"{code['experiment']} loaded the data set {min(unnamed)!r}, whose name stands whole neither in its settings "
            "nor in its code, so that nobody would see a change of its reader: write it out in one of them."
        )


def commit(folder: Path) -> str:
    """The commit of the checkout, with ``+changes`` if files of the package differ from it; or ``unknown``."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(folder), *arguments)
        return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode(errors="replace").strip()

    try:
        changed = git("status", "--porcelain", "--", "lib")
        return git("rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# --- machine ------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Python and the numerical packages that this process has imported, without local build labels."""
    loaded = [package for module, package in _PACKAGES.items() if module in sys.modules]
    found = {package: metadata.version(package).partition("+")[0] for package in loaded}
    return {"python": platform.python_version()} | found


def hardware(device: str) -> str:
    """The CPU and memory of this machine, and the GPU if ``device`` is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = _kernel_says("cpuinfo", "model name") or platform.processor() or platform.machine()
    text = f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB"
    if device.startswith("cuda"):
        import torch

        text = f"{torch.cuda.get_device_name(device)}; {text}"
    return text


def _kernel_says(file: str, label: str) -> str:
    """The value of a label in a file of ``/proc``; empty if there is none."""
    try:
        lines = Path("/proc", file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(label)), "")


@contextmanager
def measured(cost: dict[str, Any]):
    """Fill ``cost`` with the seconds, CPU-seconds and peak memory in MB that the block took.

    The peak is that of the whole process: run one unit in each process.
    """
    begin, begin_cpu = time.perf_counter(), _cpu_seconds()
    yield cost
    cost["seconds"] = round(time.perf_counter() - begin, 2)
    cost["cpu_seconds"] = round(_cpu_seconds() - begin_cpu, 2)
    cost["peak_memory_mb"] = round(_peak_memory_mb())
    cost["finished"] = datetime.now(UTC).isoformat(timespec="seconds")


def _peak_memory_mb() -> float:
    # getrusage may report memory that the parent used before the fork.
    if peak := _kernel_says("self/status", "VmHWM"):
        return int(peak.split()[0]) / 2**10
    units = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# --- what is out of date -----------------------------------------------------------------------------------


MISSING, DAMAGED, CURRENT = "missing", "damaged", "current"
OTHER_CODE, OTHER_DATA = "other code", "other data"


def origin_checker() -> Callable[[Result], str]:
    """A function that says whether a result is ``current``, or from ``other code`` or ``other data``.

    It reads the sources once and follows each experiment once. Data are compared by the digests in the catalog.
    """
    # By name: this layer does not import data.
    catalog, places = import_module("loupe.data").CATALOG, import_module("loupe.data.places")
    sources, listed = closure.read_sources(), places.files_listed(catalog)

    @cache
    def same_code(code: str) -> bool:
        return is_current(json.loads(code), sources)

    def origin(result: Result) -> str:
        made_by = result.provenance
        if not same_code(json.dumps(made_by.get("code", {}), sort_keys=True)):
            return OTHER_CODE
        read = made_by.get("data", {}).items()
        return CURRENT if all(listed.get(file, sha256) == sha256 for file, sha256 in read) else OTHER_DATA

    return origin


def standing_result(unit: Unit, store: Store, origin: Callable[[Result], str]) -> tuple[str, Result | None]:
    """The state of a unit, and its result if it has one.

    The state is ``missing`` (no result at today's settings), ``damaged``, or the answer of ``origin``, an
    :func:`origin_checker` shared between many units.
    """
    try:
        result = store.find(unit)
    except StoreError:
        return DAMAGED, None
    if result is None:
        return MISSING, None
    word = origin(result)
    return (OTHER_DATA if word == CURRENT and not same_start(unit, result, store) else word), result


def same_start(unit: Unit, result: Result, store: Store) -> bool:
    """Whether the results that it started from are still the stored ones."""
    if not (read := result.provenance.get("earlier")):
        return True
    today = {one.experiment: store.readable(one) for one in unit.before()}
    return all(today.get(name) and today[name].npz == npz for name, npz in read.items())


def reusable(unit: Unit, store: Store) -> Result | None:
    """The result of a unit, unless results that it started from have been replaced."""
    found = store.find(unit)
    return found if found and same_start(unit, found, store) else None
