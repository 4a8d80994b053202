"""The page on training: its programs run as they stand, and what is generated follows from code and measurements."""

import ast
import inspect
import re
import subprocess
import sys

import pytest
import torch

from loupe.experiment.folders import project_root
from loupe.publishing import pages
from loupe.training import fit

ROOT = project_root()
PAGE = (ROOT / "book" / "training.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def parts():
    return pages.training()


def test_the_page_includes_every_generated_part(parts):
    assert set(re.findall(r"_generated/training_(\w+)\.md", PAGE)) == set(parts)


def test_shown_code_is_the_code_that_runs(parts):
    """Without the docstring, and in nothing else, the shown loop differs from the one that runs."""
    shown = parts["fit"].split("```")[1].removeprefix("python\n")
    runs = ast.parse(inspect.getsource(fit))
    del runs.body[0].body[0]
    runs.body[0].decorator_list.clear()  # old names of arguments
    assert ast.dump(ast.parse(shown)) == ast.dump(runs)
    for name in ("batches", "seeds", "checkpoint"):
        code = parts[name].split("```")[1].removeprefix("python\n")
        ast.parse(code)
        assert '"""' not in code


def test_digits_are_read(capsys):
    names = {}
    exec(PROGRAMS[0], names)
    read = re.fullmatch(r"(\d+)% of unseen digits are read\n", capsys.readouterr().out)
    assert int(read[1]) > 85


def test_the_program_for_several_processes_ends_alike_in_one_and_two(tmp_path):
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        (folder / "train.py").write_text(PROGRAMS[1])
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            "train.py",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "last loss" in done.stdout
        losses.append(torch.load(folder / "run.pt", weights_only=True)["losses"])
    assert losses[0][-1] < losses[0][0] / 100
    torch.testing.assert_close(*losses, rtol=0.05, atol=1e-4)


def test_sentences_follow_from_the_numbers():
    measured = {
        "rows": [
            {"case": "small", "method": "bare loop", "milliseconds": 2.0},
            {"case": "small", "method": "fit", "milliseconds": 2.5},
        ]
    }
    assert "takes 25% more for small" in pages._loop_costs(measured)
