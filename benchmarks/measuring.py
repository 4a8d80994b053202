"""What the benchmarks share: CPU time of functions that take turns, and memory that stays with the process."""

import ctypes
import math
import statistics
import time

SHORT = 0.05  # seconds: a sample repeats calls until it lasts as long
SLOW, FEW = 2.0, 3  # seconds beyond which a call is sampled so many times only


def keep_memory():
    """Have glibc keep what is freed; whether it did.

    Otherwise every large tensor asks the kernel for new pages, which costs as much as the machine pleases: up to four
    times what is computed.
    """
    try:
        change = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    most_mappings, trim_threshold = -4, -1
    return bool(change(most_mappings, 0) and change(trim_threshold, -1))


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
