"""`make gpu`: run the tests that need CUDA, then compute what is missing at the preset gpu, and pack what is new.

The machine may have no network, so nothing is installed; missing packages are named.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "ipython": "IPython"}


def why_not() -> str:
    """Why this machine or this Python is not suitable; empty if it is."""
    if not Path("/dev/nvidiactl").exists():
        return "this machine has no NVIDIA GPU: `make long` computes the same on a CPU, in hours."
    if sys.version_info < (3, 11):  # noqa: UP036 (this file may be run by any Python)
        return f"{sys.executable} is Python {sys.version.split()[0]}: type make gpu PYTHON=python3.11, or a later one."
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w-]+", one)[0] for one in (*project["dependencies"], "pytest")]
    missing = [name for name in names if find_spec(MODULES.get(name, name.replace("-", "_"))) is None]
    if missing:
        return (
            f"{sys.executable} lacks {', '.join(missing)}: install them, or name another Python with PYTHON=."
        )
    import torch

    return (
        ""
        if torch.cuda.is_available()
        else f"torch {torch.__version__} finds no GPU: it may be a build without CUDA."
    )


def main() -> None:
    """Run tests, then units until the time is up; the exit status is that of the first failure."""
    if reason := why_not():
        sys.exit(f"make gpu: {reason}")
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = str(ROOT / "lib")
    run = [sys.executable, "-m"]
    tests = subprocess.run([*run, "pytest", "-o", "addopts=", "-m", "cuda", "tests/cuda"])
    within = ["--within", os.environ["LOUPE_WITHIN"], "--pack", os.environ["LOUPE_PACK"]]
    units = subprocess.run([*run, "loupe", "compute", *sys.argv[1:], "--preset", "gpu", *within])
    sys.exit(tests.returncode or units.returncode)


if __name__ == "__main__":
    main()
