"""``loupe watch``: the progress of runs that train here."""

import json
import time
from pathlib import Path

import typer

from loupe.cli.terminal import new_table, print_table


def latest_lines(work: Path) -> list[tuple[str, dict, float]]:
    """The latest metrics of each run below a folder: name, metrics, age in seconds; newest first."""
    found = []
    for path in work.rglob("*.jsonl"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            age = time.time() - path.stat().st_mtime
        except OSError:  # its unit has just ended
            continue
        # The last line may be incomplete.
        whole = [line for line in lines if line.startswith("{") and line.endswith("}")]
        if whole:
            name = path.relative_to(work).with_suffix("")
            found.append((str(name), json.loads(whole[-1]), max(0.0, age)))
    return sorted(found, key=lambda one: one[2])


def rows_of(work: Path) -> list[tuple[str, ...]]:
    """A table row for each run: name, step, loss, other metrics, age in seconds."""
    rows = []
    for name, line, age in latest_lines(work):
        known = ("step", "steps", "loss", "learning_rate", "gradient_norm", "seconds")
        rest = ", ".join(f"{key} {value:.4g}" for key, value in line.items() if key not in known)
        rows.append((
            name, f"{line['step']} of {line['steps']}", f"{line['loss']:.4g}", f"{line['learning_rate']:.2g}",
            f"{line['gradient_norm']:.3g}", rest, f"{age:.0f} s ago",
        ))  # fmt: skip
    return rows


def watch() -> None:
    """Show the progress of networks that are training here now, newest first."""
    from loupe.experiment.store import Store

    work = Store.default().work
    # `make long` trains in a clone of this checkout.
    rows = [row for place in (work, work.parent / "long" / ".loupe" / work.name) for row in rows_of(place)]
    if not rows:
        typer.echo("No network is training here.")
        return
    table = new_table("run", "step", "loss", "learning rate", "gradient", "evaluation", "written")
    for row in rows:
        table.add_row(*row)
    print_table(table)
