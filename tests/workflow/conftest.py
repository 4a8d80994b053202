"""A small checkout with one chapter of its own, whose units take a moment, to run the workflow in."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from loupe.experiment.folders import project_root

ROOM = '''
from pydantic import Field
from loupe.experiment import Claim, Measure, Preset, at_most
from loupe.papers import PAPERS
from loupe.papers.toy.experiments import ruler, walk

class Config(Preset):
    seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    """seeds"""
    pause: float = 0.0
    """seconds a walk takes"""
    broken: int = -1
    """the seed at which a walk fails"""

def _judge(results):
    return [Measure("error", float(max(results["walk"]["end"])), at_most(1))]

PAPER = PAPERS["toy"]
CLAIMS = (Claim("T1", "Walks end.", "Sec. 1", "1", "exact", "at most 1", _judge, ("smoke", "cpu")),)
PRESETS = {
    "smoke": Config(), "cpu": Config(pause=1.0), "gpu": Config(broken=1), "paper": Config(),
}
'''
EXPERIMENTS = """
import time
from loupe.experiment import experiment

@experiment
def walk(config, *, seed, device):
    time.sleep(config.pause)
    if seed == config.broken:
        raise ValueError("the walker fell")
    return {"end": float(seed)}

@experiment
def ruler(config, *, seed, device):
    return {"length": 1.0}
"""
CELLS = [
    ("parameters", 'preset = "smoke"\nseed = None\nrecompute = False\noverrides = {}'),
    (
        None,
        "from loupe import open_chapter\n"
        'chapter = open_chapter("toy", preset=preset, seed=seed, recompute=recompute, overrides=overrides)\n'
        "chapter.ledger()",
    ),
]


class Checkout:
    """A copy of the checkout's package, workflow and Makefile, with the chapter ``toy`` and nothing computed."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("lib/loupe", "workflow"):
            shutil.copytree(project_root() / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(project_root() / name, root)
        room = root / "lib/loupe/papers/toy"
        room.mkdir()
        (room / "__init__.py").write_text(ROOM)
        (room / "experiments.py").write_text(EXPERIMENTS)
        with open(root / "lib/loupe/papers/__init__.py", "a") as table:
            table.write('\nPAPERS["toy"] = Paper("toy", *["topology"] * 4, 2020, "", "", None)\n')
        cells = [nbformat.v4.new_code_cell(source) for _, source in CELLS]
        cells[0].metadata["tags"] = ["parameters"]
        (root / "notebooks").mkdir()
        language = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), root / "notebooks/toy.ipynb")
        self.ready, self.home = root.with_name("ready"), root.with_name("home")
        self.home.mkdir()

    def start(self, *variables: str, target: str = "reproduce") -> subprocess.Popen:
        """``make TARGET`` in a process group of its own."""
        self.ready.touch()
        environment = os.environ | {"PYTHONPATH": str(self.root / "lib"), "HOME": str(self.home)}
        for name in ("LOUPE_RESULTS", "XDG_CACHE_HOME", "MAKEFLAGS", "MAKELEVEL"):
            environment.pop(name, None)
        return subprocess.Popen(
            ["make", target, f"BIN={Path(sys.executable).parent}", f"READY={self.ready}", *variables],
            cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def reproduce(self, *variables: str, target: str = "reproduce") -> tuple[int, str]:
        """Exit status and output of ``make reproduce``, or of another target."""
        process = self.start(*variables, target=target)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def finished(self, preset: str) -> dict[str, str]:
        """When each stored unit of a preset was finished, and by which content of its files."""
        folder = self.root / (".loupe/results" if preset == "smoke" else "results") / preset / "toy"
        return {path.name: path.read_text() for path in sorted(folder.glob("*-s*.json"))}

    @staticmethod
    def kill(process: subprocess.Popen, sign: signal.Signals) -> str:
        """Send a signal to the process group, as a terminal does, and return what was printed."""
        os.killpg(process.pid, sign)
        return process.communicate(timeout=60)[0]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("workflow") / "checkout"
    root.mkdir()
    return Checkout(root)
