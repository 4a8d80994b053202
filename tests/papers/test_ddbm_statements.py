"""What the page says in words about its stored results, and the recipe that readers copy."""

import re

import numpy as np
import pytest
import torch

from loupe import open_chapter
from loupe.diffusion.bridges import VEBridge
from loupe.experiment.results import find
from loupe.papers.ddbm.claims import at_churn
from loupe.papers.ddbm.figures import LATER, REPORTED
from loupe.publishing.notebooks import notebook_file, read_notebook

CELLS = read_notebook(notebook_file("ddbm")).cells
TEXT = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
PROSE = " ".join(re.sub(r"<span[^>]*>([^<]*)</span>|\*", r"\1", TEXT).split())


@pytest.fixture(scope="module")
def toys():
    return find(open_chapter("ddbm", preset="cpu"), ("toys",)).runs.first


def test_the_ode_sends_all_paths_to_one_point(toys):
    assert "the ODE sends all 20,000 paths to the same point" in PROSE
    assert toys["VP modes"][at_churn(toys, 0.0)][2] == 0


def test_the_spread_is_not_monotone_in_the_churn(toys):
    assert (
        "zero at zero, dozens of times the true variance at $s=0.001$, and within about 15 percent from 0.33 on"
        in PROSE
    )
    for name in ("VP", "VE"):
        variance = dict(
            zip(toys["churns"], toys[f"{name} variance"][list(toys["steps"]).index(40)], strict=True)
        )
        assert variance[0.0] < 1e-20
        assert variance[0.001] > 24
        assert all(0.85 < value < 1.15 for churn, value in variance.items() if churn >= 0.33)


def test_one_heun_step_overshoots():
    """Next to the pinned end the flow is dx = x / (2 d) dd, whose solution is a square root."""
    near, far = 1e-4, 0.1
    first, step = 1 / (2 * near), far - near
    ahead = 1 + step * first
    heun = 1 + step * (first + ahead / (2 * far)) / 2
    assert heun / (far / near) == pytest.approx(3 / 8, rel=0.01)
    assert heun > 10 * (far / near) ** 0.5


def test_the_standard_deviation_of_ve_is_forty_in_the_middle():
    """The caption of the figure of paths."""
    widest = VEBridge().coefficients(torch.linspace(0, 80, 1001, dtype=torch.float64))[2].max().sqrt()
    assert float(widest) == pytest.approx(40, rel=1e-3)


def test_what_the_paper_and_later_papers_report():
    rows = {row[0]: row[1:] for row in REPORTED}
    assert "of 1.83, against 7.43 for the best earlier method" in PROSE
    assert rows["DDBM (VP)"][0] == 1.83
    assert min(row[0] for name, row in rows.items() if "DDBM" not in name) == rows["I2SB"][0] == 7.43
    assert "0.04 against 0.209 for Pix2Pix" in PROSE
    assert (round(rows["DDBM (VP)"][3], 2), rows["Pix2Pix"][3]) == (0.04, 0.209)
    later = {row[0]: row[1:] for row in LATER}
    assert "it reaches an FID of 1.74 with 20 calls" in PROSE
    assert later["DBIM"][0].endswith("/ 1.74")
    assert "With 5 calls, the hybrid sampler has an FID over 300" in PROSE
    assert all(float(later["DDBM's own sampler"][k].split(" /")[0]) > 300 for k in (0, 2))


def test_the_recipe_runs():
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 20
    targets, sources = np.random.default_rng(0).uniform(size=(2, 32, 1, 16, 16))
    space = {"targets": targets, "sources": sources}
    exec(code.replace("steps=2000, batch=64", "steps=2, batch=8"), space)
    assert space["answers"].shape == (8, 1, 16, 16)
    assert np.isfinite(space["answers"].numpy()).all()
