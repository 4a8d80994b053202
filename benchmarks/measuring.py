"""Shared parts of the benchmarks: time and memory of functions, environment, tables, and output files."""

import argparse
import ctypes
import gc
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loupe.experiment.provenance import hardware

SHORT = 0.05  # seconds: a sample repeats calls until it lasts as long
SLOW, FEW = 2.0, 3  # seconds beyond which a call is sampled so many times only
PEAKS = Path("/proc/self/clear_refs")  # writing here resets peak memory; Linux only


# ---- time


def milliseconds(functions, rounds):
    """CPU milliseconds of each call: medians over rounds in which the functions take turns."""

    def sample(function, calls):
        start = time.process_time()
        for _ in range(calls):
            function()
        return (time.process_time() - start) / calls

    first = {name: sample(run, 1) for name, run in functions.items()}
    found = {name: [] for name in functions}
    for turn in range(rounds):
        for name, run in functions.items():
            if turn < FEW or first[name] < SLOW:
                found[name].append(sample(run, math.ceil(SHORT / max(first[name], 1e-6))))
    return {name: 1e3 * statistics.median(samples) for name, samples in found.items()}


def matmul_rates(shapes, rounds):
    """GFLOP/s of this machine's matrix products in float32, on the CPU's clock.

    Parameters
    ----------
    shapes : dict of (int, int, int)
        By name, the rows of the one matrix, what both have in common, and the columns of the other.
    rounds : int

    Returns
    -------
    dict of float
    """
    import torch  # one benchmark does without it

    products = {}
    for name, (m, k, n) in shapes.items():
        a, b, c = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        products[name] = partial(torch.mm, a, b, out=c)
    times = milliseconds(products, rounds)
    return {name: 2 * math.prod(shapes[name]) / times[name] / 1e6 for name in shapes}


# ---- memory


def keep_memory():
    """Make glibc keep freed memory; returns whether it does.

    Otherwise every large tensor gets new pages from the kernel, which can take up to four times as long as the
    computation.
    """
    try:
        change = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    most_mappings, trim_threshold = -4, -1
    return bool(change(most_mappings, 0) and change(trim_threshold, -1))


def status(field):
    """A line of this process's memory as Linux counts it, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def peak_bytes(call):
    """Memory that a call needs beyond what is held before it: exact only in a process that has freed little."""
    gc.collect()
    PEAKS.write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def in_fresh_process(function, *arguments):
    """The result of a module's function in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(function, *arguments).result()


# ---- what is said of it


def command_line(description, arguments=None):
    """The command-line options of every benchmark.

    Parameters
    ----------
    description : str
        Of a module, whose first line stands in the help.
    arguments : list of str, optional
        In place of those of the process.

    Returns
    -------
    argparse.Namespace
        ``quick``, a bool, and ``json``, a path or None.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small sizes only: a check that everything agrees"
    )
    parser.add_argument("--json", metavar="FILE", help="write the measurements to this file too")
    return parser.parse_args(arguments)


def wide_console(width=190):
    """A console as wide as its terminal; where there is none, wide enough for the tables."""
    return Console(width=None if sys.stdout.isatty() else width)


def environment(packages, *, device="cpu", kept=None, others=()):
    """The environment: packages, hardware, threads.

    Parameters
    ----------
    packages : sequence of str
        Whose versions matter.
    device : str
    kept : bool, optional
        What :func:`keep_memory` returned; without it nothing is said of memory.
    others : dict, optional
        What else holds for all rows.

    Returns
    -------
    dict
        In the order in which it is shown.
    """
    about = {"python": platform.python_version(), "hardware": hardware(device), "threads": 1}
    memory = {} if kept is None else {"freed memory": "kept" if kept else "returned"}
    return about | memory | dict(others) | {package: version(package) for package in packages}


def name_of(dtype):
    """float64, float32."""
    return str(dtype).removeprefix("torch.")


def table(title, rows):
    """A rich table of measurements, with every column that some row has."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    shown = Table(title=title)
    for column in columns:
        words = isinstance(rows[0].get(column), str)
        shown.add_column(column, justify="left" if words else "right")
    for row in rows:
        shown.add_row(*[written(row.get(column, "")) for column in columns])
    return shown


def written(value):
    """A number in three digits, several with commas."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return str(value)


def with_tasks(tables):
    """The rows of all tables, each with the title of its own as its task."""
    return [{"task": title} | row for title, rows in tables.items() for row in rows]


def publish(console, about, rows, path=None, **more):
    """Print the environment, and write it with the measurements in the format that chapters read.

    Parameters
    ----------
    console : rich.console.Console
    about : dict
        See :func:`environment`.
    rows : list of dict
        Each names its task.
    path : str or path-like, optional
        Where nothing is given, nothing is written.
    more
        What else is written, by name.
    """
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    if path:
        with open(path, "w") as file:
            json.dump({"environment": about, "rows": rows} | more, file, indent=2)
