"""Shared by all tests: a store of their own, and a tiny chapter that computes in milliseconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loupe.experiment.folders import project_root
from loupe.papers import PAPERS
from loupe.publishing.notebooks import quiet_environment

quiet_environment()
ROOT = project_root()


CHAPTERS = [paper.slug for paper in PAPERS.values() if not paper.planned]
PARTS = [*CHAPTERS, "methods", "book"]


def pytest_addoption(parser):
    """``--parts "egno book"``: the tests of some chapters, of the site (book), of everything else (methods)."""
    parser.addoption("--parts", default="", help=f"run some of: {' '.join(PARTS)}")


def _parts_of(nodeid: str) -> set[str]:
    """The parts that a test belongs to: the chapters that its name holds, or the book, or the methods."""
    chapters = {slug for slug in CHAPTERS if slug in nodeid}
    return chapters or {"book" if nodeid.startswith("tests/book/") else "methods"}


def pytest_collection_modifyitems(config, items):
    """Tests that read sets which no checkout may carry are marked: they run where LOUPE_DATA names a mirror."""
    for item in items:
        if "mirror" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mirror)
    wanted = set(config.getoption("--parts").split())
    if unknown := sorted(wanted - set(PARTS)):
        raise pytest.UsageError(
            f"CHAPTERS={unknown[0]} is no part of the tests: choose among {' '.join(PARTS)}."
        )
    if wanted:
        others = [item for item in items if not wanted & _parts_of(item.nodeid)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if wanted & _parts_of(item.nodeid)]


@pytest.fixture
def parts_of():
    """The parts that a test belongs to, by its name."""
    return _parts_of


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    """An empty store in place of the project's own."""
    monkeypatch.setenv("LOUPE_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture(scope="session")
def command():
    """Run ``loupe ...`` (or another module) in a fresh process from the checkout; returns the finished process."""

    def run(*arguments, module="loupe", cwd=ROOT, **environment) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=300
        )

    return run


@pytest.fixture(scope="session")
def published_claims():
    """Every committed ledger: a list of (path, content)."""
    return [
        (path, json.loads(path.read_text())) for path in sorted(Path(ROOT, "results").glob("*/*/claims.json"))
    ]
