"""Shared by all tests: a store of their own, and a tiny chapter that computes in milliseconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loupe.experiment.folders import project_root
from loupe.publishing.notebooks import quiet_environment

quiet_environment()
ROOT = project_root()


def pytest_collection_modifyitems(items):
    """Tests that read sets which no checkout may carry are marked: they run where LOUPE_DATA names a mirror."""
    for item in items:
        if "mirror" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mirror)


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
