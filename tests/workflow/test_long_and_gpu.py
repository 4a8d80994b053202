"""`make long` computes in a clone by the last commit; `make gpu` says what a machine lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loupe.experiment.folders import project_root


def test_long_computes_by_the_last_commit_and_goes_on(checkout):
    (checkout.root / "results").mkdir()
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", *words.split()], cwd=checkout.root, check=True)
    code = checkout.root / "lib/loupe/papers/toy/experiments.py"
    committed = code.read_text()
    code.write_text("no Python at all (")  # what is edited here does not matter
    try:
        status, output = checkout.reproduce("LONG=toy", "WITHIN=20m", target="long")
        assert status != 0  # one walker falls at this preset, and the rest arrives
        assert "the walker fell" in output
        for name in ("walk seed 0", "ruler seed 0", "ruler seed 1"):
            assert f"toy/{name} at gpu: added" in output
        kept = checkout.finished("gpu")
        assert len(kept) == 3
        _, output = checkout.reproduce("LONG=toy", "WITHIN=20m", target="long")
        assert "1 unit to compute" in output
        assert checkout.finished("gpu") == kept
    finally:
        code.write_text(committed)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU: make gpu would compute")
def test_without_a_gpu_one_sentence():
    root = project_root()
    done = subprocess.run(
        [sys.executable, root / "workflow/gpu.py", "egno"], capture_output=True, text=True, env=os.environ
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "make gpu: this machine has no NVIDIA GPU: `make long` computes the same on a CPU, in hours.\n"
    )
