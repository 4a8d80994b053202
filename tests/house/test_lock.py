"""The lock, pyproject.toml and environment.yml say the same."""

import re
import tomllib
from importlib import metadata
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from loupe.experiment.folders import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
}


UNLOCKED = {"inception"}
"""Extras that bring packages which hold torch to one build; who wants them installs them on top."""


def requirements():
    extras = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in UNLOCKED}
    return [Requirement(line) for line in [*PROJECT["dependencies"], *chain(*extras.values())]]


@pytest.mark.parametrize("requirement", [one for one in requirements() if one.name != "loupe"], ids=str)
def test_the_lock_satisfies_the_project(requirement):
    assert Version(LOCK[canonicalize_name(requirement.name)]) in requirement.specifier


def test_every_line_of_the_lock_is_an_exact_version_that_all_platforms_have():
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert len(lines) == len(LOCK)
    assert not [line for line in lines if "+" in line or "file:" in line or line.startswith(("nvidia", "-"))]
    assert LOCK["torch"] == "2.13.0"


def test_the_lock_is_closed_under_dependencies():
    """What a locked package needs here is locked too, so that nothing is chosen at install time.

    torch's builds for GPUs bring their own libraries; those are no part of the lock, which serves every platform.
    """
    for name in LOCK:
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if name == "torch" and requirement.name.startswith(("nvidia-", "cuda-", "triton")):
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in LOCK, f"{name} needs {requirement}"


def test_every_locked_package_admits_the_oldest_python_of_the_project():
    oldest = Version(PROJECT["requires-python"].partition(",")[0].removeprefix(">=") + ".0")
    needs = {name: metadata.metadata(name).get("Requires-Python") or "" for name in LOCK}
    assert {name: need for name, need in needs.items() if oldest not in SpecifierSet(need)} == {}


def test_what_runs_here_is_what_is_locked():
    wrong = {
        name: metadata.version(name)
        for name, version in LOCK.items()
        if metadata.version(name).split("+")[0] != version
    }
    assert not wrong


def test_conda_users_get_the_same_lock():
    text = (ROOT / "environment.yml").read_text()
    assert "- --requirement requirements.lock" in text
    assert f"python{PROJECT['requires-python']}" in text
    assert not re.search(r"^ +- (torch|numpy)", text, re.MULTILINE)


def test_citation_and_package_agree():
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()
