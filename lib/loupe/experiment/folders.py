"""Where results and ledgers lie, and reading ledgers: light, so that the command line can list verdicts at once."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loupe.errors import LoupeError

PRESET_NAMES = ("smoke", "cpu", "gpu", "paper")


class StoreError(LoupeError):
    """A stored file that cannot be read or written."""


class MissingResultError(LoupeError):
    """A result that is asked for and was never computed."""


def project_root() -> Path:
    """The checkout that this package is installed from, or else the current folder."""
    checkout = Path(__file__).parents[3]
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def show_path(path: Path) -> str:
    """The path as a person would type it: relative to the current folder where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@dataclass(frozen=True)
class Folders:
    """The two folders of results: ``published`` is committed with the project, ``scratch`` is not."""

    published: Path
    scratch: Path

    @classmethod
    def default(cls) -> Self:
        """The project's own folders, or those below the folder that ``LOUPE_RESULTS`` names."""
        if folder := os.environ.get("LOUPE_RESULTS"):
            return cls(Path(folder).absolute(), Path(folder).absolute() / "scratch")
        return cls(project_root() / "results", project_root() / ".loupe" / "results")

    def of(self, slug: str, preset: str) -> Path:
        """The folder of a chapter's results of record at a preset; smoke runs are never published."""
        return (self.scratch if preset == "smoke" else self.published) / preset / slug

    @property
    def work(self) -> Path:
        """Where units keep what lets them go on after an interruption; emptied as they finish."""
        return self.scratch.parent / "checkpoints"

    def ledger_file(self, slug: str, preset: str) -> Path:
        """The machine's copy of a chapter's ledger at a preset."""
        return self.of(slug, preset) / "claims.json"


def read_ledger(folders: Folders, slug: str, preset: str) -> list[dict[str, Any]] | None:
    """The claims of a chapter as last judged at a preset, or ``None`` if they never were."""
    path = folders.ledger_file(slug, preset)
    try:
        return json.loads(path.read_text())["claims"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        remedy = f"type `loupe compute {slug} --preset {preset}` to judge again"
        raise StoreError(f"{show_path(path)} is damaged ({error}): {remedy}.") from None


def published_ledgers(folders: Folders, slug: str) -> dict[str, list[dict[str, Any]]]:
    """The ledgers of a chapter at every committed preset that has been judged, largest preset first."""
    ledgers = {
        preset: read_ledger(folders, slug, preset) for preset in reversed(PRESET_NAMES) if preset != "smoke"
    }
    return {preset: claims for preset, claims in ledgers.items() if claims is not None}
