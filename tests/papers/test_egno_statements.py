"""What the page says in words about its stored results, and the recipe and the cells that readers copy."""

import re

import numpy as np
import pytest
import torch

from loupe import open_chapter
from loupe.dynamics import EGNN, EGNO, charged_windows
from loupe.experiment.results import find
from loupe.papers import egno as room
from loupe.papers.egno.figures import CHARGED, HOLDER, REPORTED, but_worst, errors_of
from loupe.papers.egno.numbers import FIRST_LOSSES
from loupe.publishing.notebooks import notebook_file, read_notebook

CELLS = read_notebook(notebook_file("egno")).cells
TEXT = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
PROSE = " ".join(re.sub(r"<span[^>]*>([^<]*)</span>|\*", r"\1", TEXT).split())


@pytest.fixture(scope="module")
def found():
    """The largest runs of charged particles."""
    return find(open_chapter("egno", preset="cpu"), CHARGED)


@pytest.fixture(scope="module")
def errors(found):
    """Errors ``(seeds, S, P)`` by method."""
    return {name: errors_of(found, name) for name in HOLDER}


def test_the_end_of_the_window(errors):
    assert "EGNO is ahead for each of three seeds" in PROSE
    means = {name: each[..., -1].mean(1) for name, each in errors.items()}
    assert (means["EGNO"] < means["EGNN"]).all()
    assert "RF starts from weights that are too large, and for one seed it doesn't train" in PROSE
    assert sorted(means["RF"] > means["Linear"]) == [False, False, True]
    assert "and its test error 0.014, above EGNO's for every seed" in PROSE
    assert means["MPNN"].min() > means["EGNO"].max()
    assert "medians give no order of EGNO and EGNN, and EGNN-S has the lowest" in PROSE
    medians = {name: np.median(each[..., -1], axis=1) for name, each in errors.items()}
    assert sorted(medians["EGNN"] < medians["EGNO"]) == [False, False, True]
    assert all((medians["EGNN-S"] <= each).all() for each in medians.values())


def test_the_last_margin_is_an_egnn_that_blew_up(found, errors):
    assert "the last margin is an EGNN that blew up" in PROSE
    peaks = found["charged_egnn"]["EGNN losses"][:, FIRST_LOSSES:].max(1)
    assert peaks.argmax() == len(peaks) - 1
    assert (1 - errors["EGNO"][..., -1].mean(1) / errors["EGNN"][..., -1].mean(1)).argmax() == len(peaks) - 1


def test_the_worst_system_is_farther_out_than_all_for_training(found, errors):
    assert "In one test system two particles are farther apart than in any system for training" in PROSE
    config = found.settings
    far = [torch.cdist(x, x).amax((1, 2)) for x in (
        charged_windows(part, count, slices=1).positions
        for part, count in (("train", config.systems), ("test", config.test_systems))
    )]  # fmt: skip
    assert (far[1] > far[0].max()).sum() == 1
    assert errors["EGNN"][-1, :, -1].argmax() == far[1].argmax()


def test_intervals_of_the_order_at_the_end_contain_one():
    assert "Both intervals contain 1" in PROSE
    (claim,) = (claim for claim in room.CLAIMS if claim.id == "EG4b")
    (judgement,) = open_chapter("egno", preset="gpu").judge([claim])
    assert all(measure.low < 1 < measure.high for measure in judgement.measures)


def test_as_much_processor_time(found):
    assert "is behind for every seed" in PROSE
    for ours, theirs in zip(found["charged_egno"], found["charged_egnn"], strict=True):
        in_time = ours["EGNO clock"] <= theirs["EGNN clock"][-1]
        assert ours["EGNO valid"][in_time].min() > theirs["EGNN valid"].min()


def test_two_predictions_of_four_layers_coincide(found):
    assert "EGNN-S has four layers for five times, so two of its predictions coincide" in PROSE
    for run in found["charged_egnn"]:
        shown = run["EGNN-S shown"]
        same = [k for k in range(4) if np.array_equal(shown[:, k], shown[:, k + 1])]
        assert same == [1]  # counted as such in the numbers of the page


def test_most_of_what_new_times_cost_is_the_first(found):
    assert "Most of that is the first new time" in PROSE
    fine = but_worst(np.mean([run["EGNO physical fine errors"] for run in found["charged_egno"]], axis=0).T)
    assert fine[0] > 0.5 * fine[0::2].sum()


def test_short_training():
    stored = open_chapter("egno", preset="cpu").stored
    assert "There the convolution on vectors hurts" in PROSE
    run = stored["ablations"].first
    ends = {name: but_worst(run[f"{name} errors"][None, :, -1])[0] for name in map(str, run["variants"])}
    assert ends["full"] > max(ends["no convolution"], ends["only invariants"])
    assert "Walking, EGNO is worse than a line" in PROSE
    walk = {name: stored["walking"][f"{name} errors"][..., -1].mean() for name in ("EGNO", "EGNN", "Linear")}
    assert walk["EGNO"] > walk["Linear"] > walk["EGNN"]


def test_what_nobody_could_confirm_stands_nowhere():
    for number in ("0.0054", "0.0071", "0.0819", "0.0215", "14.41", "2.735"):
        assert number not in TEXT
    claims = {claim.id: claim.paper for claim in room.CLAIMS}
    reported = {what: ours for what, ours, *_ in REPORTED}
    assert f"running: {reported['running, F-MSE × 100']} " in claims["EG6b"]
    for name in ("aspirin", "benzene"):
        assert f"{name} {reported[f'MD17, {name}, F-MSE × 100']}" in claims["EG11"]


def test_the_live_cell_shows_the_clip(capsys):
    assert "Nineteen follow to rounding, and one doesn't. Its particles are farther apart" in PROSE
    (source,) = (cell.source for cell in CELLS if cell.source.startswith("import torch"))
    space = {}
    exec(source, space)
    assert capsys.readouterr().out.startswith("19 of 20 systems follow; ")
    assert space["gap"].argmax() == torch.cdist(space["x"], space["x"]).amax((1, 2)).argmax()


def test_the_recipe_runs_and_learns(tmp_path, monkeypatch, capsys):
    recipe = re.search(r"## Use it.*?```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert len(recipe.splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    error, shape = capsys.readouterr().out.splitlines()
    assert float(error.split()[-1]) < 0.05
    assert shape.startswith("torch.Size([179, 2, 3, 2])")
    assert (tmp_path / "model.pt").exists()


def test_solutions_of_the_exercises_about_time():
    windows = charged_windows("test", 3)
    known = windows.node_features, windows.edge_features
    bare = windows.predict(EGNO(*known, convolve=(), embedding=0, seed=1))
    assert torch.allclose(bare, windows.predict(EGNN(*known, seed=1)).expand_as(bare), rtol=1e-4)
    still = windows.predict(EGNO(*known, embedding=0, seed=1))
    assert torch.allclose(still, still[:, :1].expand_as(still), rtol=1e-4)
    assert not torch.allclose(still, bare, rtol=1e-2)
