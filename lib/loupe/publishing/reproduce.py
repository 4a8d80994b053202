"""Which results `make reproduce` has to compute, the marks that say so, and the table of costs.

A mark is a small file that names a result. It is rewritten only when the result changes: workflows compare file times,
and git does not keep them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

from loupe.errors import LoupeError, shortened
from loupe.experiment import render
from loupe.experiment.folders import StoreError, project_root, show_path, write_whole
from loupe.experiment.provenance import CURRENT, origin_checker, standing_result
from loupe.experiment.results import Stored, judge_all
from loupe.experiment.store import Result, Store
from loupe.experiment.units import Unit, experiments_of, units_of


def marks_folder(store: Store) -> Path:
    """The folder of marks, next to the store's scratch results."""
    return store.scratch.with_name("reproduce")


def mark_file(folder: Path, unit: Unit) -> Path:
    """The mark of a unit in the folder of marks."""
    return folder / unit.preset / unit.slug / f"{unit.experiment}-s{unit.seed}.done"


def write_mark(path: Path, content: str) -> None:
    """Write a mark unless it is unchanged: its time is that of the last change."""
    if not path.is_file() or path.read_bytes() != content.encode():
        write_whole(path, content.encode())


def identity(result: Result) -> str:
    """The content of a result's mark: the digest of its sidecar, which includes that of its arrays."""
    return f"{result.sha256}\n"


def mirror(units: Iterable[Unit], store: Store) -> dict[Unit, str]:
    """Update the marks of units, and return those that are not current, each with its state.

    Marks of outdated units are removed; marks of current ones are written if missing or for another result.
    """
    folder, origin, todo = marks_folder(store), origin_checker(), {}
    for unit in units:
        word, result = standing_result(unit, store, origin)
        if word == CURRENT:
            write_mark(mark_file(folder, unit), identity(result))
        else:
            todo[unit] = word
            mark_file(folder, unit).unlink(missing_ok=True)
    return todo


def mirror_chapters(
    units: dict[str, list[Unit]], preset: str, store: Store, report: Callable[[str], None] = lambda line: None
) -> None:
    """Update the marks of chapters before a workflow starts, and report one line for each.

    Parameters
    ----------
    units
        The wanted units of each chapter at the preset.
    preset, store
        The preset to reproduce, and where results are.
    report
        Called with each line.
    """
    folder = marks_folder(store) / preset
    for slug, mine in units.items():
        todo = mirror(mine, store)
        counts = ", ".join(f"{count} {word}" for word, count in Counter(todo.values()).items())
        state = f"{len(todo)} of {len(mine)} units are out of date ({counts})"
        report(f"{slug} at {preset}: {state if todo else 'every unit is up to date'}")
        write_mark(folder / slug / "sources", sources_digest(slug))
        # Snakemake does not rebuild a missing input while its outputs exist and are newer than the rest.
        if todo or not store.ledger_file(slug, preset).exists():
            for later in ("ledger.done", "chapter.done"):
                (folder / slug / later).unlink(missing_ok=True)
    (folder / "book.done").unlink(missing_ok=True)  # `loupe book` itself checks what has changed
    for log_of_earlier_job in folder.rglob("*.log"):
        log_of_earlier_job.unlink(missing_ok=True)


def sources_digest(slug: str) -> str:
    """A digest of everything that judges and draws a chapter: the package without other papers, and the notebook's
    cells.

    Outputs and the parameters cell are not included, since publishing writes them.
    """
    package, total = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).parts
        if len(place) < 3 or place[0] != "papers" or place[1] == slug:
            total.update("/".join(place).encode() + b"\0" + path.read_bytes())
    notebook = project_root() / "notebooks" / f"{slug}.ipynb"
    try:
        for cell in json.loads(notebook.read_bytes())["cells"]:
            if "parameters" not in cell["metadata"].get("tags", []):
                total.update("".join(cell["source"]).encode() + b"\0")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LoupeError(
            f"{show_path(notebook)} is no notebook ({shortened(str(error))}): restore it from git."
        ) from None
    return total.hexdigest() + "\n"


# --- costs --------------------------------------------------------------------------------------------------

COST_HEAD = ("chapter", "experiment", "units", "seconds", "CPU-seconds", "peak MB", "verdicts")


def summary(room: ModuleType, preset: str, store: Store, seeds: Sequence[int] = ()) -> list[tuple[str, ...]]:
    """The cost table of a chapter at a preset: one row for each experiment and one total, under :data:`COST_HEAD`.

    Parameters
    ----------
    room, preset, store
        The chapter's room, its preset, and where its results are.
    seeds
        These seeds instead of the preset's; then no claim is judged, since claims need all of the preset's seeds.

    Returns
    -------
    list of tuple of str
        ``units`` reads stored/wanted; claims are judged now, on stored results.
    """
    slug, units = room.PAPER.slug, wanted(room, preset, seeds)
    results = {unit: result for unit in units if (result := store.readable(unit))}
    rows = []
    for name in experiments_of(room):
        mine = [unit for unit in units if unit.experiment == name]
        if mine:
            rows.append((slug, name, *_cost(mine, results), ""))
    verdicts = "" if seeds else _verdicts(Stored(room, preset, store))
    return [*rows, (slug, "all of it", *_cost(units, results), verdicts)]


def wanted(
    room: ModuleType, preset: str, seeds: Iterable[int] = (), experiment: str | None = None
) -> list[Unit]:
    """All units of a chapter (or of one experiment) at a preset, or at the given seeds instead of the preset's."""
    each = [units_of(room, preset, experiment=experiment, seed=seed) for seed in list(seeds) or [None]]
    return [unit for units in each for unit in units]


def _cost(units: list[Unit], results: dict[Unit, Result]) -> tuple[str, str, str, str]:
    costs = [results[unit].provenance for unit in units if unit in results]
    seconds, cpu = (sum(cost[key] for cost in costs) for key in ("seconds", "cpu_seconds"))
    peak = max((cost["peak_memory_mb"] for cost in costs), default=0)
    return f"{len(costs)}/{len(units)}", f"{seconds:,.1f}", f"{cpu:,.1f}", f"{peak:,}"


def _verdicts(stored: Stored) -> str:
    try:
        return render.tally([judgement.verdict for judgement in judge_all(stored)])
    except StoreError:
        return "not judged: a result is damaged"
