"""Input and output on the terminal: times, settings, tables."""

import json
import re
import sys
from typing import Any

from loupe.errors import LoupeError, shown


def read_time(time: str | None) -> float | None:
    """A time such as 90s, 45m or 2h, in seconds."""
    match = re.fullmatch(r"(\d{1,6})([smh])", time or "1s")
    if match is None or not int(match[1]):
        raise LoupeError(f"--within {shown(time)} is refused: give a time such as 90s, 45m or 2h.")
    return None if time is None else float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def read_settings(settings: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` pairs as a dictionary; a value is parsed as JSON if possible, else kept as a string."""
    overrides = {}
    for pair in settings or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LoupeError(f"--set {shown(pair)} is not KEY=VALUE, such as --set cloud_points=500.")
        try:
            overrides[key] = json.loads(value)
        except ValueError:
            overrides[key] = value
        except RecursionError:
            raise LoupeError(
                f"--set {shown(pair)} is nested too deep: give numbers, strings and lists."
            ) from None
    return overrides


def new_table(*columns: str):
    """A table with these headers and no frame."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def print_table(table) -> None:
    """Print a table at the width of the terminal, or 160 characters without one."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
