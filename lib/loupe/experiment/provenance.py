"""What made a result: code, data, versions, hardware, time and memory.

The code is identified by digests of what the experiment can reach in the package; see :mod:`loupe.experiment.closure`.
A result whose digests differ today was made by "other code".
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from loupe.experiment import closure

# Packages whose version a reader may want to know, where the experiment imported them.
_PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "gudhi")
_MODULE_NAMES = {"scikit-learn": "sklearn"}


# --- code ---------------------------------------------------------------------------------------------------


_frozen: dict[str, str] = {}


def freeze_sources() -> None:
    """Take the digests of this process from the sources of the package as they are now, whatever happens to the files."""
    _frozen.update(closure.read_sources())


def code_digests(slug: str, experiment: str, sources: Mapping[str, str] | None = None) -> dict[str, str]:
    """What identifies the code of an experiment: its name, and a digest for each module in its closure."""
    sources = sources or _frozen or closure.read_sources()
    return {"experiment": f"{slug}:{experiment}"} | closure.Closure(sources, slug, experiment).digests()


def is_current(code: Mapping[str, str], sources: Mapping[str, str] | None = None) -> bool:
    """Whether the code that made a result, as recorded with it, is the same today."""
    slug, _, experiment = code.get("experiment", "").partition(":")
    return code == code_digests(slug, experiment, sources)


def data_read() -> dict[str, str]:
    """The sha256 of every data file that this process has read, by ``FOLDER/FILE``."""
    reader = sys.modules.get("loupe.data.digests")  # this floor knows no data; without it none was read
    return reader.files_read() if reader else {}


def commit(folder: Path) -> str:
    """The commit of the checkout, with ``+changes`` if files of the package differ from it; or ``unknown``."""

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ("git", "-C", str(folder), *arguments),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lib")
        return git("rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# --- machine ------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Python and the numerical packages that this process has imported, without local build labels."""
    loaded = [name for name in _PACKAGES if _MODULE_NAMES.get(name, name) in sys.modules]
    return {"python": platform.python_version()} | {
        name: metadata.version(name).partition("+")[0] for name in loaded
    }


def hardware(device: str) -> str:
    """The processor and memory of this machine, and the accelerator if ``device`` is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    if device.startswith("cuda"):
        import torch

        text = f"{torch.cuda.get_device_name(device)}; {text}"
    return text


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@contextmanager
def measured(cost: dict[str, Any]):
    """Fill ``cost`` with the seconds, CPU-seconds and peak memory in MB that the block took.

    The peak is that of the process since its start: run one unit a process.
    """
    begin, begin_cpu = time.perf_counter(), _cpu_seconds()
    yield cost
    cost["seconds"] = round(time.perf_counter() - begin, 2)
    cost["cpu_seconds"] = round(_cpu_seconds() - begin_cpu, 2)
    cost["peak_memory_mb"] = round(_peak_memory_mb())
    cost["finished"] = datetime.now(UTC).isoformat(timespec="seconds")


def _peak_memory_mb() -> float:
    try:  # what getrusage says of this process may be what its parent had used before
        line = next(
            line
            for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("VmHWM")
        )
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
