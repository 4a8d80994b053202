"""``loupe new``: what it writes runs, holds to the style of the house, and overwrites nothing."""

import os
import shutil
import subprocess
import sys

import pytest

from loupe.errors import LoupeError
from loupe.experiment.folders import project_root
from loupe.publishing.new_chapter import write_chapter

PARTS = ("lib", "tests", "notebooks", "benchmarks", "pyproject.toml", "_toc.yml")


@pytest.fixture
def checkout(tmp_path):
    """A copy of what a chapter is written into, without data and results."""
    for part in PARTS:
        source = project_root() / part
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "torture")
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / part)
    (tmp_path / "results").mkdir()
    return tmp_path


def run(checkout, *words):
    environment = os.environ | {"PYTHONPATH": str(checkout / "lib"), "LOUPE_RESULTS": ""}
    done = subprocess.run(
        (sys.executable, "-m", *words), cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_chapter_runs_and_holds_to_the_style(checkout):
    written = write_chapter("toy_paper", "A Toy of a Paper", "2401.00001", "flows", root=checkout)
    assert {path.suffix for path in written} == {".py", ".ipynb", ".yml"}
    files = [str(path) for path in written if path.suffix != ".yml"]
    run(checkout, "ruff", "check", *files)
    run(checkout, "ruff", "format", "--check", *files)
    assert "1 unit" in run(checkout, "loupe", "compute", "toy_paper", "--preset", "smoke", "--seed", "0")
    assert "A Toy of a Paper" in run(checkout, "loupe", "list")
    run(checkout, "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/papers/test_toy_paper_room.py")
    run(checkout, "loupe", "run", "toy_paper", "--preset", "smoke")
    lines = (checkout / "_toc.yml").read_text().splitlines()
    chapters = [line.split("/")[1] for line in lines if "notebooks/" in line]
    assert chapters == sorted(chapters)
    assert "toy_paper" in chapters


def test_a_planned_paper_brings_its_own_details(checkout):
    write_chapter("geotdm", root=checkout)
    assert "What would a body in motion do next?" in (checkout / "notebooks" / "geotdm.ipynb").read_text()
    assert "2410.13027" in (checkout / "lib/loupe/papers/geotdm/__init__.py").read_text()
    lines = (checkout / "_toc.yml").read_text().splitlines()
    titled = [k for k, line in enumerate(lines) if "title:" in line]
    assert all("file: notebooks/" in lines[k - 1] for k in titled)
    assert '        title: "GeoTDM: What would a body in motion do next?"' in lines


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("sedd",), "is there already"),
        (("Toy",), "the name 'Toy' is refused: give lower-case"),
        (("toy",), "--title '' is refused"),
        (("toy", 'A "title"', "2401.00001"), "--title"),
        (("toy", "A title", "24.1"), "--arxiv '24.1' is refused: give its number"),
        (("toy", "A title", "2401.00001", "cats"), "--theme 'cats' is refused: give one of"),
    ],
)
def test_what_is_refused_writes_nothing(words, sentence, checkout):
    before = sorted(checkout.rglob("*"))
    with pytest.raises(LoupeError, match=sentence):
        write_chapter(*words, root=checkout)
    assert sorted(checkout.rglob("*")) == before
