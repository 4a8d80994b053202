"""What is out of date, judged by content, and marks that tell a workflow so by their times.

A mark is a small file that says which result was there. It is written only when that changes, so that rules which
depend on marks run when, and only when, something they need is another than before; git keeps no times to go by.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path

from loupe.errors import LoupeError, shortened
from loupe.experiment import provenance
from loupe.experiment.closure import read_sources
from loupe.experiment.folders import StoreError, project_root, show_path
from loupe.experiment.store import Result, Store, write_whole
from loupe.experiment.units import Unit

MISSING, DAMAGED, CURRENT = "missing", "damaged", "current"
OTHER_CODE, OTHER_DATA = "other code", "other data"


def origin_checker() -> Callable[[Result], str]:
    """A function that tells whether a result is ``current``, or of ``other code`` or ``other data`` than today's.

    It reads the sources once, and follows each experiment once. Data are compared by the digests in the catalog.
    """
    sources, listed = read_sources(), _data_today()

    @cache
    def same_code(code: str) -> bool:
        return provenance.is_current(json.loads(code), sources)

    def origin(result: Result) -> str:
        made_by = result.provenance
        if not same_code(json.dumps(made_by.get("code", {}), sort_keys=True)):
            return OTHER_CODE
        read = made_by.get("data", {})
        return (
            CURRENT
            if all(listed.get(file, sha256) == sha256 for file, sha256 in read.items())
            else OTHER_DATA
        )

    return origin


def _data_today() -> dict[str, str]:
    # By name: this floor knows no data.
    data = import_module("loupe.data")
    return import_module("loupe.data.digests").files_listed(data.CATALOG)


def standing(unit: Unit, store: Store, origin: Callable[[Result], str]) -> str:
    """How a unit stands: ``missing`` (no result of today's settings), ``damaged``, or what ``origin`` says of it.

    ``origin`` is an :func:`origin_checker`, shared by those who ask about many units.
    """
    try:
        result = store.find(unit)
    except StoreError:
        return DAMAGED
    return MISSING if result is None else origin(result)


def outdated(units: Iterable[Unit], store: Store) -> dict[Unit, str]:
    """The units that are not current, each with its standing, in the order given."""
    origin = origin_checker()
    standings = {unit: standing(unit, store, origin) for unit in units}
    return {unit: word for unit, word in standings.items() if word != CURRENT}


# --- marks --------------------------------------------------------------------------------------------------


def marks_folder(store: Store) -> Path:
    """Where marks lie: beside the scratch results of the store."""
    return store.scratch.with_name("reproduce")


def mark_file(folder: Path, unit: Unit) -> Path:
    """The mark of a unit below the folder of marks."""
    return folder / unit.preset / unit.slug / f"{unit.experiment}-s{unit.seed}.done"


def write_mark(path: Path, content: str) -> None:
    """Write a mark unless it says the same already: its time is that of the last change."""
    try:
        same = path.read_bytes() == content.encode()
    except OSError:
        same = False
    if not same:
        write_whole(path, content.encode())


def identity(result: Result) -> str:
    """What the mark of a result says: the digest of its sidecar's content, which holds that of its arrays."""
    return f"{result.sha256}\n"


def mirror(units: Iterable[Unit], store: Store) -> dict[Unit, str]:
    """Make the marks say how units stand, and return those that are :func:`outdated`.

    The mark of a unit that is out of date is removed, that of a current one written if it is missing or speaks of
    another result, and left alone otherwise.
    """
    units, folder = list(units), marks_folder(store)
    todo = outdated(units, store)
    for unit in units:
        if unit in todo:
            mark_file(folder, unit).unlink(missing_ok=True)
        else:
            write_mark(mark_file(folder, unit), identity(store.find(unit)))
    return todo


def mirror_chapters(
    units: dict[str, list[Unit]], preset: str, store: Store, report: Callable[[str], None] = lambda line: None
) -> None:
    """Make the marks say how chapters stand before a workflow starts, and report it in a line each.

    Parameters
    ----------
    units
        The wanted units of each chapter at the preset.
    preset, store
        What is to be reproduced, and where results lie.
    report
        Is given each line.
    """
    folder = marks_folder(store) / preset
    for slug, mine in units.items():
        todo = mirror(mine, store)
        counts = ", ".join(f"{count} {word}" for word, count in Counter(todo.values()).items())
        state = (
            f"{len(todo)} of {len(mine)} units are out of date ({counts})"
            if todo
            else "every unit is up to date"
        )
        report(f"{slug} at {preset}: {state}")
        write_mark(folder / slug / "sources", sources_digest(slug))
        # Snakemake makes no missing input anew while anything made from it is there and newer than the rest.
        if todo or not store.ledger_file(slug, preset).exists():
            for later in ("ledger.done", "chapter.done"):
                (folder / slug / later).unlink(missing_ok=True)
    (folder / "book.done").unlink(missing_ok=True)  # `loupe book` looks for itself what has changed
    for log_of_earlier_job in folder.rglob("*.log"):
        log_of_earlier_job.unlink(missing_ok=True)


def sources_digest(slug: str) -> str:
    """A digest of all that judges and draws a chapter: the package without other papers, and the notebook's cells.

    Outputs and the cell of parameters play no part, since publishing writes them.
    """
    package, total = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).parts
        if len(place) < 3 or place[0] != "papers" or place[1] == slug:
            total.update("/".join(place).encode() + b"\0" + path.read_bytes())
    notebook = project_root() / "notebooks" / f"{slug}.ipynb"
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
        for cell in cells:
            if "parameters" not in cell["metadata"].get("tags", []):
                total.update("".join(cell["source"]).encode() + b"\0")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LoupeError(
            f"{show_path(notebook)} is no notebook ({shortened(str(error))}): restore it from git."
        ) from None
    return total.hexdigest() + "\n"
