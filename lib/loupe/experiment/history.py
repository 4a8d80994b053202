"""What verdicts were: ``results/history.json``, to which a line is added only when a verdict changes.

Entries are in the order in which they were added. Each has the version of the package at that time: the verdicts of a
release are the last ones of earlier versions, or, for claims that have none, the first ones.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from loupe import __version__
from loupe.experiment.claims import VERDICTS, Judgement
from loupe.experiment.folders import Folders, StoreError, show_path
from loupe.experiment.store import write_whole

FIELDS = ("slug", "preset", "claim", "verdict", "date", "version")


def history_file(folders: Folders) -> Path:
    """Where the history of all chapters lies: beside the published results."""
    return folders.published / "history.json"


def read_history(folders: Folders) -> list[dict[str, str]]:
    """All entries, oldest first; none where nothing was ever recorded.

    Raises
    ------
    StoreError
        If the file is there but is not a list of entries with :data:`FIELDS`.
    """
    path = history_file(folders)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(entries, list):
        raise _damaged(path, "it holds no list")
    for k, entry in enumerate(entries, 1):
        plain = isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())
        if not plain or tuple(entry) != FIELDS or entry["verdict"] not in VERDICTS:
            raise _damaged(path, f"entry {k} is {json.dumps(entry)[:80]}")
    return entries


def record(folders: Folders, slug: str, preset: str, judgements: Iterable[Judgement]) -> None:
    """Add the verdicts that differ from the last ones recorded. Claims whose results are missing have none."""
    path = history_file(folders)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # chapters are computed side by side, and each adds its own
        entries = read_history(folders)
        last = {(one["slug"], one["preset"], one["claim"]): one["verdict"] for one in entries}
        today = datetime.now(UTC).date().isoformat()
        new = [
            dict(zip(FIELDS, (slug, preset, one.claim.id, one.verdict, today, __version__), strict=True))
            for one in judgements
            if not one.missing and last.get((slug, preset, one.claim.id)) != one.verdict
        ]
        if new:
            lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in [*entries, *new])
            write_whole(path, f"[\n{lines}\n]\n".encode())
    finally:
        os.close(folder)


def at_release(
    entries: Iterable[dict[str, str]], slug: str, preset: str, claim: str, version: str = __version__
) -> str | None:
    """The verdict of a claim when this version was released; ``None`` for one that has no history."""
    mine = [one for one in entries if (one["slug"], one["preset"], one["claim"]) == (slug, preset, claim)]
    earlier = [one for one in mine if one["version"] != version]
    return (earlier[-1] if earlier else mine[0])["verdict"] if mine else None


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"{show_path(path)} is damaged ({why}): restore it from git.")
