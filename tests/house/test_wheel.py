"""A wheel works where there is no checkout: without the folder of data, on what ships with dependencies."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy
import pytest

from loupe.experiment.folders import project_root

ROOT = project_root()
PROBE = """
import loupe, loupe.data
from loupe.data.places import box_root
assert box_root() is None, box_root()
assert loupe.data.load("digits").x_train.shape == (1437, 8, 8)
assert loupe.data.locate("mnist").where == "missing"
try:
    loupe.data.load("mnist")
except loupe.data.DataError as error:
    print(error)
print(loupe.__file__)
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of what git holds, and the wheel and the source archive made from it."""
    folder = tmp_path_factory.mktemp("built")
    files = run(
        "git", "ls-files", "-z", "lib", "pyproject.toml", "README.md", "LICENSE", "data/README.md", cwd=ROOT
    )
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    make = "from setuptools.build_meta import build_wheel, build_sdist; build_sdist('..'); build_wheel('..')"
    run(sys.executable, "-c", make, cwd=folder / "source")
    return folder


def test_archives_leave_data_out(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"loupe"}
    assert any(name.endswith(".css") for name in names)
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if name.split("/")[1:2] == ["data"]]


def test_a_wheel_runs_smoke_without_a_checkout(built, tmp_path):
    """In an environment of its own, which sees the dependencies of this one but not this package."""
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    python, elsewhere = tmp_path / "venv/bin/python", tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LOUPE_RESULTS": str(tmp_path / "results"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    said = run(python, "-c", PROBE, cwd=elsewhere, env=environment)
    assert "'mnist' is missing" in said
    assert str(site) in said
    run(
        python, "-m", "loupe", "compute", "ph_dimension", "--preset", "smoke", "--experiment", "known_dimensions",
        cwd=elsewhere, env=environment,
    )  # fmt: skip
    assert list((tmp_path / "results").rglob("known_dimensions-s0*.json"))
