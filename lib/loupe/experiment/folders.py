"""The folders of results, ledgers and the verdict history, and how their files are written and read.

This module is fast to import, so that verdicts list at once.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from loupe import __version__
from loupe.errors import LoupeError, shortened

PRESET_NAMES = ("smoke", "cpu", "gpu", "paper")

COMMITTED = ("paper", "gpu", "cpu")
"""The presets whose results are committed, the largest first."""


class StoreError(LoupeError):
    """A stored file that cannot be read or written."""


class MissingResultError(LoupeError):
    """A requested result that was never computed."""


def project_root() -> Path:
    """The checkout of this package, or else the current folder."""
    checkout = Path(__file__).parents[3]
    return checkout if (checkout / "notebooks").is_dir() else current_folder()


def current_folder() -> Path:
    """The working folder; one-sentence error if it has been removed."""
    try:
        return Path.cwd()
    except OSError:
        sentence = "the working folder is gone: change to another one and type the command again."
        raise LoupeError(sentence) from None


def show_path(path: Path) -> str:
    """The path as a user would type it: relative if it is below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)


@dataclass(frozen=True)
class Folders:
    """The two folders of results: ``published`` is committed with the project, ``scratch`` is not."""

    published: Path
    scratch: Path

    @classmethod
    def default(cls) -> Self:
        """The project's own folders, or those below ``LOUPE_RESULTS``."""
        if folder := os.environ.get("LOUPE_RESULTS"):
            root = current_folder() / folder
            return cls(root, root / "scratch")
        return cls(project_root() / "results", project_root() / ".loupe" / "results")

    def of(self, slug: str, preset: str) -> Path:
        """The folder of a chapter's official results at a preset; smoke runs are never published."""
        return (self.scratch if preset == "smoke" else self.published) / preset / slug

    @property
    def work(self) -> Path:
        """Where units keep checkpoints; emptied as they finish."""
        return self.scratch.parent / "checkpoints"

    def sidecars(self, slug: str, preset: str) -> list[Path]:
        """The ``.json`` of every official result of a chapter at a preset, sorted."""
        folder = self.of(slug, preset)
        try:
            return sorted(path for path in folder.iterdir() if path.match("[!.]*-s*.json"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise cannot_read(folder, error) from None

    def ledger_file(self, slug: str, preset: str) -> Path:
        """The file of a chapter's ledger at a preset."""
        return self.of(slug, preset) / "claims.json"

    def judged_presets(self, slug: str) -> list[str]:
        """The committed presets at which a chapter has a ledger, the largest first."""
        return [preset for preset in COMMITTED if os.path.lexists(self.ledger_file(slug, preset))]


# --- writing and reading -----------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Atomically replace a file by ``content``, flushed to disk: readers see the old or the new content."""
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a file that could not be written."""
    return StoreError(
        f"could not write {show_path(path)} ({error.strerror or error}): make room there, or set LOUPE_RESULTS to a "
        "folder that you can write to, and type the command again; results finished before are kept."
    )


def stamped(content: Mapping[str, Any]) -> bytes:
    """Strict JSON of the content with its sha256: detects accidents, not forgery."""
    whole = {**content, "sha256": _digest(content)}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_stamped(path: Path, remedy: str) -> dict[str, Any] | None:
    """The content of a stamped file, after its digest is checked; ``None`` if there is no file.

    Raises
    ------
    StoreError
        If the file cannot be read or was changed; the message ends with the remedy.
    """
    text = read_whole(path, remedy)
    if text is None:
        return None
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("sha256") != _digest(content):
            raise ValueError("its content does not match the digest in it")
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), remedy) from None
    return content


def read_whole(path: Path, remedy: str = "") -> bytes | None:
    """The bytes of a stored file; ``None`` if there is none, :class:`StoreError` if it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise cannot_read(path, error) from None
    except OSError as error:
        raise damaged(path, error.strerror, remedy) from None


def _digest(content: Mapping[str, Any]) -> str:
    bare = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def damaged(path: Path, why: str, remedy: str = "") -> StoreError:
    """The error for a damaged file; the remedy is a command that makes it again."""
    why, remedy = shortened(" ".join(str(why).split()), 160), remedy and f", or type `{remedy}`"
    return StoreError(f"{show_path(path)} is damaged ({why}): restore it from git{remedy}.")


def cannot_read(path: Path, error: OSError) -> StoreError:
    """The error for a file or folder that cannot be read."""
    return StoreError(
        f"{show_path(path)} cannot be read ({error.strerror or error}): change its permissions."
    )


# --- ledgers ------------------------------------------------------------------------------------------------


def read_ledger(folders: Folders, slug: str, preset: str) -> dict[str, Any] | None:
    """The last ledger of a chapter at a preset, with its ``claims``; ``None`` if there is none."""
    from loupe.experiment.claims import VERDICTS

    path, remedy = folders.ledger_file(slug, preset), f"loupe compute {slug} --preset {preset}"
    if (ledger := read_stamped(path, remedy)) is None:
        return None
    try:
        whose, claims = (ledger["slug"], ledger["preset"]), ledger["claims"]
        sound = all(isinstance(one["id"], str) and one["verdict"] in VERDICTS for one in claims)
    except (LookupError, TypeError):
        sound = False
    if not sound or whose != (slug, preset):
        why = "it is the ledger of something else" if sound else "a claim has no verdict"
        raise damaged(path, why, remedy)
    return ledger


def judged_from(folders: Folders, slug: str, preset: str) -> dict[str, str]:
    """The sha256 of every sidecar behind a chapter's ledger at a preset, by name."""
    paths = folders.sidecars(slug, preset)
    return {path.stem: hashlib.sha256(read_whole(path) or b"").hexdigest() for path in paths}


def standing_verdicts(folders: Folders, slug: str) -> dict[str, list[str] | None]:
    """The verdicts of a chapter at each judged preset; ``None`` if results changed since."""
    verdicts = {}
    for preset in folders.judged_presets(slug):
        ledger = read_ledger(folders, slug, preset) or {}
        same = ledger.get("results") == judged_from(folders, slug, preset)
        verdicts[preset] = [claim["verdict"] for claim in ledger["claims"]] if same else None
    return verdicts


# --- history -----------------------------------------------------------------------------------------------

HISTORY_FIELDS = ("slug", "preset", "claim", "verdict", "date", "version")


def history_file(folders: Folders) -> Path:
    """The history of all chapters, next to the published results."""
    return folders.published / "history.json"


def read_history(folders: Folders) -> list[dict[str, str]]:
    """All entries, oldest first; empty if nothing was recorded.

    Raises
    ------
    StoreError
        If the file exists but is not a list of entries with :data:`HISTORY_FIELDS`.
    """
    from loupe.experiment.claims import VERDICTS

    path = history_file(folders)
    text = read_whole(path)
    try:
        entries = [] if text is None else json.loads(text)
        if not isinstance(entries, list):
            raise ValueError("it holds no list")
        for k, entry in enumerate(entries, 1):
            plain = isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())
            if not plain or tuple(entry) != HISTORY_FIELDS or entry["verdict"] not in VERDICTS:
                raise ValueError(f"entry {k} is {json.dumps(entry)[:80]}")
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from None
    return entries


def record(folders: Folders, slug: str, preset: str, judgements: Iterable) -> None:
    """Record the verdicts that changed. Claims without results have none."""
    path = history_file(folders)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # chapters run in parallel, and each adds its own
        entries = read_history(folders)
        last = {(one["slug"], one["preset"], one["claim"]): one["verdict"] for one in entries}
        today, known = datetime.now(UTC).date().isoformat(), len(entries)
        for one in judgements:
            if not one.missing and last.get((slug, preset, one.claim.id)) != one.verdict:
                values = (slug, preset, one.claim.id, one.verdict, today, __version__)
                entries.append(dict(zip(HISTORY_FIELDS, values, strict=True)))
        if len(entries) > known:
            lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
            write_whole(path, f"[\n{lines}\n]\n".encode())
    finally:
        os.close(folder)


def at_release(
    entries: Iterable[dict[str, str]], slug: str, preset: str, claim: str, version: str = __version__
) -> str | None:
    """The verdict of a claim at this version's release; ``None`` without history."""
    mine = [one for one in entries if (one["slug"], one["preset"], one["claim"]) == (slug, preset, claim)]
    earlier = [one for one in mine if one["version"] != version]
    return (earlier[-1] if earlier else mine[0])["verdict"] if mine else None
