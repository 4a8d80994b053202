"""What the page of reflected_diffusion says in words follows from its stored results."""

import re

import numpy as np
import pytest
from showing import page

from loupe.experiment.claims import t_interval
from loupe.experiment.results import stored_at
from loupe.papers.reflected_diffusion.claims import astray, value
from loupe.publishing.notebooks import notebook_file, read_notebook

CELLS = read_notebook(notebook_file("reflected_diffusion")).cells
TEXT = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
PROSE = page("reflected_diffusion")


@pytest.fixture(scope="module")
def twins(runs):
    """The first runs of the image networks, with walls and without."""
    return runs("images_reflected").first, runs("images_exploding").first


def test_the_re_statement_spends_its_time_in_exponentials(chapter):
    assert "At the noise of training, about half of its time goes into exponentials" in PROSE
    rows = [row for row in chapter.benchmark()["rows"] if row["task"] == "The kernel's score"]
    rows = [row for row in rows if row["noise"].startswith("training")]
    names = ("re-statement", "re-statement with exp2")
    slow, fast = ([row["ms"] for row in rows if row["method"] == name] for name in names)
    assert len(slow) == len(fast) > 4
    assert max(np.divide(fast, slow)) < 0.55


def test_clipping_has_not_settled_at_its_order(runs):
    assert "hasn't settled at −1/2" in PROSE
    run = runs("thresholding").first
    local = np.diff(np.log(run["clip"])) / np.diff(np.log(run["path_steps"]))
    assert local.min() > -0.5
    assert "puts points on the wall itself, where a reflected path spends no time" in PROSE


def test_the_true_flow_stays_inside(runs):
    assert "so the true flow never leaves" in PROSE
    lowest, highest = runs("identities").first["flow_range"]
    assert 0 <= lowest <= highest <= 1


def test_what_networks_return_is_no_density(runs):
    assert "so the question is how close it comes" in PROSE
    grey = runs("grey_bound")
    assert ((grey["bound"] - grey["surprise"]).mean(1) > -0.005).all()  # below the truth by rounding at most
    assert "In our 5 seeds it's 1.09 to 1.59" in PROSE
    toys = runs("toys_reflected")
    assert (np.exp(toys["log_density"] - toys["true_log_density"]).mean(1) > 1).all()


def test_twins_in_the_square_are_level(runs):
    assert "5 seeds can't tell the two apart" in PROSE
    ours, theirs = runs("toys_reflected"), runs("toys_exploding")
    walls, free, floors = (
        np.array([value(runs, name, "distance", toy) for toy in ("squares", "corners")])
        for runs, name in ((ours, "fold"), (theirs, "static"), (ours, "data"))
    )
    gaps = walls - free
    assert gaps[0].mean() < 0 < gaps[1].mean()
    for low, high in map(t_interval, gaps.tolist()):
        assert low < 0 < high
    assert "neither has learned the chessboard well" in PROSE
    assert min(walls[0].mean(), free[0].mean()) > 2 * floors[0].max()
    assert "falls below 0 about half the time when two distributions agree" in PROSE
    assert np.mean(floors < 0) == pytest.approx(0.5, abs=0.2)


def test_what_five_seeds_do_show(runs):
    ours = runs("toys_reflected")
    assert "farther off than folding on the chessboard and leaves too many points at the walls" in PROSE
    fold, clip = (value(ours, name, "distance", "squares") for name in ("fold", "clip"))
    assert t_interval(fold.tolist())[1] < t_interval(clip.tolist())[0]
    for toy in ("squares", "corners"):
        assert value(ours, "clip", "at_walls", toy).min() > value(ours, "data", "at_walls", toy).mean()
        gap = value(ours, "short", "distance", toy) - value(ours, "fold", "distance", toy)
        assert t_interval(gap.tolist())[1] > 0 > gap.mean()  # starting from less noise costs nothing
    assert "is far off on the chessboard, in one seed" in PROSE
    assert len(runs("toys_logit")) == len(runs("simplex")) == 1
    assert value(runs("toys_logit").first, "logit", "distance", "squares") > 2 * clip.mean()


def test_the_seed_of_images_favors_the_threshold(chapter, twins):
    ours, theirs = twins
    assert "isn't in favor of walls" in PROSE
    assert value(ours, "fold", "distance") > 1.1 * value(theirs, "static", "distance")
    assert "fewer images show the right class" in PROSE
    assert value(ours, "fold", "accuracy") < value(theirs, "static", "accuracy")
    assert "the twin does as well with none before the end" in PROSE
    assert value(theirs, "none", "distance") <= value(theirs, "static", "distance")
    assert "The sliced Wasserstein distance of pixels leans the other way, slightly" in PROSE
    assert 0 < value(theirs, "static", "sliced") - value(ours, "fold", "sliced") < 0.005
    assert "The preset `gpu` (CIFAR-10, three seeds) hasn't been run" in PROSE
    assert stored_at(chapter, "images_reflected", "gpu") is None


def test_guidance_saturates_with_walls_too(twins):
    ours, theirs = twins
    assert "mostly because backgrounds turn gray. At $w=5$ they are level" in PROSE
    for run, name in ((ours, "fold"), (theirs, "static")):
        assert value(run, "train", "dark") - value(run, name, "dark", "10") > 0.5 * astray(run, name, "10")
    assert astray(ours, "fold", "5") == pytest.approx(astray(theirs, "static", "5"), abs=0.005)
    assert "The flow saturates most" in PROSE
    drawn = ((ours, "flow"), (theirs, "flow"), (ours, "fold"), (theirs, "static"))
    flow, free, fold, static = (value(run, name, "bright", "10") for run, name in drawn)
    assert free > flow > fold > static > value(ours, "train", "bright")
    assert "every other sampler gets it always" in PROSE
    assert [value(run, name, "accuracy", "10") for run, name in drawn] == [1] * 4


def test_the_recipe_runs(capsys):
    recipe = re.search(r"## Use it.*?```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert len(recipe.splitlines()) <= 20
    space = {}
    exec(recipe, space)
    assert capsys.readouterr().out.startswith("torch.Size([10, 1, 16, 16])")
    flow = space["reflected"].flow(
        space["guided"], space["sde"], space["sde"].limit((10, 1, 16, 16)), rtol=1, atol=1
    )
    assert 0 <= flow.x.min() <= flow.x.max() <= 1


def test_the_live_cell_finds_the_same_score_twice(capsys):
    (source,) = (cell.source for cell in CELLS if cell.source.startswith("import torch"))
    exec(source, {})
    found = np.array([list(map(float, line.split()[-4:])) for line in capsys.readouterr().out.splitlines()])
    assert found[::2] == pytest.approx(found[1::2], abs=2e-3)
    assert (found[:, [0, 3]] == 0).all()
