"""The layers of the package, the commands, and that the documentation is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from loupe.experiment.folders import PRESET_NAMES, project_root
from loupe.papers import PAPERS, THEMES, load_room

ROOT = project_root()
WRITTEN = [paper.slug for paper in PAPERS.values() if not paper.planned]
TARGETS = (
    "env",
    "book",
    "serve",
    "test",
    "lint",
    "reproduce",
    "long",
    "gpu",
    "torture",
    "bench",
    "lock",
    "clean",
)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_import_rules_hold():
    tool = Path(sys.executable).with_name("lint-imports")
    done = run(str(tool))
    assert done.returncode == 0, done.stdout


def test_style_holds():
    for arguments in (("check", "."), ("format", "--check", ".")):
        done = run(sys.executable, "-m", "ruff", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_make_help_lists_the_targets():
    listed = [line.split()[0] for line in run("make", "help").stdout.splitlines()]
    assert set(TARGETS) <= set(listed)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "book/how_to_run.md"])
def test_documents_name_commands_that_exist(document):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^make (\w+)|`make (\w+)", text, re.MULTILINE))
    assert {name for pair in targets for name in pair if name} <= {*TARGETS, "help"}
    verbs = set(re.findall(r"\bloupe (\w+)", text))
    known = set(re.findall(r"^  (\w+) ", run(sys.executable, "-m", "loupe", "--help").stdout, re.MULTILINE))
    assert verbs & {"compute", "run"}
    assert {verb for verb in verbs if verb.islower() and f"`loupe {verb}" in text} <= known


def test_papers_table():
    assert len(PAPERS) == 13
    assert {paper.theme for paper in PAPERS.values()} == set(THEMES)
    assert "ph_dimension" in WRITTEN


@pytest.mark.parametrize("slug", WRITTEN)
def test_a_room_has_its_parts(slug):
    room = load_room(slug)
    assert set(room.PRESETS) == set(PRESET_NAMES)
    assert room.PAPER is PAPERS[slug]
    assert len({claim.id for claim in room.CLAIMS}) == len(room.CLAIMS)
    for claim in room.CLAIMS:
        assert claim.judge or claim.reason
        assert set(claim.at) <= set(PRESET_NAMES)
        assert (set(claim.at) == set(PRESET_NAMES)) if claim.kind == "exact" else True
    for name, field in type(room.PRESETS["paper"]).model_fields.items():
        assert field.description, f"{slug}: the setting {name} has no meaning"


def test_nothing_names_a_machine():
    files = run("git", "ls-files", "-z").stdout.split("\0")
    here = [str(ROOT.parent) + "/", str(Path.home()) + "/"]
    for name in filter(None, files):
        path = ROOT / name
        if path.suffix in (".npz", ".png") or not path.exists():
            continue
        text = path.read_text(errors="replace")
        assert not [place for place in here if place in text and len(place) > 3], name


def test_every_room_is_on_the_api_page():
    from loupe.publishing.pages import API

    listed = {module.split(".")[1] for modules in API.values() for module in modules}
    rooms = {path.name for path in (ROOT / "lib" / "loupe").iterdir() if (path / "__init__.py").exists()}
    assert rooms - {"publishing", "cli"} == listed


def test_every_part_has_its_job(parts_of):
    """`make test CHAPTERS=...` sorts the tests into parts, and the hosted workflow has a job for each."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["part"]) == {*WRITTEN, "methods", "book"}
    assert parts_of(f"notebooks/{WRITTEN[0]}.ipynb::Cell 3") == {WRITTEN[0]}
    assert parts_of("tests/publishing/test_notebooks.py::test_parameters[sedd]") == {"sedd"}
    assert parts_of("tests/book/test_site.py::test_one_search_box") == {"book"}
    assert parts_of("tests/geometry/test_laws.py::test_laws[Sphere]") == {"methods"}
    asked = run(sys.executable, "-m", "pytest", "--collect-only", "-q", "--parts", "egnos", "tests/house")
    assert "CHAPTERS=egnos is no part of the tests: choose among frechet_mean" in asked.stderr
