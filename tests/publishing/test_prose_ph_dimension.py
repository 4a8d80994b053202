"""What the paragraphs of the chapter ph_dimension say in numbers follows from its stored results."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from prose import prose
from scipy.stats import spearmanr

import loupe
from loupe.metrics import bootstrap_kendall, granulated_kendall, kendall, partial_kendall, permutation_test
from loupe.papers.ph_dimension.claims_grid import SIMPLE, grids

TEXT = prose("ph_dimension")


@pytest.fixture(scope="module")
def chapter():
    return loupe.open_chapter("ph_dimension", preset="cpu")


# --- sets and processes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clouds(chapter):
    """Estimates less truth of each cloud, one a seed."""
    runs = chapter.stored["known_dimensions"]
    return dict(zip(runs.first["clouds"], (runs["dimension"] - runs.first["truth"]).T, strict=True))


def test_curves_and_surfaces(clouds):
    means = {name: errors.mean() for name, errors in clouds.items()}
    assert "Curves and surfaces come out right to a few hundredths" in TEXT
    smooth = ("circle", "cube_1", "sphere", "flat_torus", "torus", "cube_2", "swiss_roll")
    assert max(abs(means[name]) for name in smooth) < 0.06
    assert "to about a tenth), the cube a little low. In five and ten it is too low" in TEXT
    assert means["gaussian_plane"] == pytest.approx(0.1, abs=0.05)
    assert -0.3 < clouds["cube_3"].min() < clouds["cube_3"].max() < 0
    assert clouds["cube_5"].max() < -0.4
    assert clouds["cube_10"].max() < -1
    assert "The Sierpinski triangle comes out right; the Cantor sets come out high" in TEXT
    assert abs(means["sierpinski"]) < 0.02
    assert min(clouds["cantor_set"].min(), clouds["cantor_dust"].min()) > 0.02


def test_clouds_that_miss_a_tenth(chapter):
    runs = chapter.stored["known_dimensions"]
    off = np.abs(runs["dimension"] / runs.first["truth"] - 1).max(axis=0)
    assert (
        "some clouds of the Gaussian plane, the cubes in five and ten dimensions and the Cantor set miss"
        in TEXT
    )
    missed = {str(name) for name, one in zip(runs.first["clouds"], off, strict=True) if one > 0.1}
    assert missed == {"gaussian_plane", "cube_5", "cube_10", "cantor_set"}


def test_high_dimensions_are_ordered(clouds):
    assert "order sets more reliably than they measure them" in TEXT
    three, five, ten = (d + clouds[f"cube_{d}"] for d in (3, 5, 10))
    assert three.max() < five.min()
    assert five.max() < ten.min()


def test_processes(chapter):
    runs = chapter.stored["diffusion_processes"]
    beta, names = runs.first["beta"], runs.first["estimators"]
    means = runs["estimates"].mean(axis=0)
    order = dict(zip(names, (spearmanr(beta, one).statistic for one in means), strict=True))
    assert "the means over all seeds are ordered almost perfectly by every method" in TEXT
    assert min(order.values()) > 0.98
    single = {
        name: np.mean([spearmanr(beta, one).statistic for one in runs["estimates"][:, k]])
        for k, name in enumerate(names)
    }
    assert "Persistent homology orders the processes well" in TEXT
    assert single["persistent homology"] > 0.95
    assert "On one path at a time maximum likelihood orders them better" in TEXT
    assert single["MLE (k = 10)"] > single["persistent homology"] + 0.02
    error = dict(zip(names, np.abs(runs["estimates"] - beta).mean(axis=(0, 2)), strict=True))
    assert "the plain correlation dimension comes nearer to their true dimension" in TEXT
    assert error["correlation"] < error["persistent homology"] - 0.05
    assert (
        "a constant guess of 1.55, the middle of the range, is nearly as near as persistent homology" in TEXT
    )
    assert beta.mean() == pytest.approx(1.55)
    constant = np.abs(beta - beta.mean()).mean()
    assert constant - 0.05 < error["persistent homology"] < constant
    assert "and nearer than maximum likelihood" in TEXT
    assert constant < error["MLE (k = 10)"]
    assert "counting principal components and TwoNN are far off" in TEXT
    assert min(error["PCA (95 %)"], error["TwoNN"]) > 1
    assert "three of the five estimators kept within a few tenths of each other" in TEXT
    of = dict(zip(names, means, strict=True))
    near = np.stack([of[name] for name in ("persistent homology", "MLE (k = 10)", "correlation")])
    assert np.ptp(near, axis=0).max() < 0.4
    assert "and TwoNN and the count of components lay far above" in TEXT
    assert (np.minimum(of["PCA (95 %)"], of["TwoNN"]) - near.max(axis=0)).min() > 0.7


def test_exhausted_paths(chapter):
    runs = chapter.stored["exhausted_paths"]
    settings = list(zip(runs.first["points"], runs.first["largest"], strict=True))
    bias = dict(zip(settings, runs["dimension"].mean(axis=0) - 2, strict=True))
    assert "reach 950 of 1000 points" in TEXT
    assert (
        "With five times as many points and the same subset sizes the bias shrinks by more than half" in TEXT
    )
    assert 0 < bias[5000, 950] < bias[1000, 950] / 2
    assert "with sizes that grow in proportion it is back" in TEXT
    assert bias[5000, 4750] > 0.8 * bias[1000, 950]


def test_noise_of_one_draw(chapter):
    run = chapter.stored["noise_of_one_draw"].first
    one, ten = run["dimensions"].std(axis=1, ddof=1)
    assert "makes the spread about three times smaller, as $\\sqrt{10}$ would have it" in TEXT
    assert one / ten == pytest.approx(np.sqrt(10), abs=0.3)
    assert "the square comes out below 2 either way" in TEXT
    assert run["dimensions"].mean(axis=1).max() < 1.98


# --- one path -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(chapter):
    return chapter.stored["training_path"]


@pytest.fixture(scope="module")
def null(path):
    """Dimensions of the paths themselves and of their null models, by name."""
    names = path.first["surrogates"]
    return dict(zip(names, path["surrogate_dimensions"].T, strict=True)) | {"path": path["dimension"]}


def test_seen_from_afar(path):
    assert "far in time is far in space" in TEXT
    for run in path:
        first, second = np.triu_indices(len(run["picture"]), 1)
        assert spearmanr(second - first, run["picture"][first, second]).statistic > 0.6
    assert "most edges of the tree join an iterate to the very next one" in TEXT
    assert min(np.mean(np.abs(np.diff(run["edges"], axis=1)) == 1) for run in path) > 0.8


def test_estimators_on_a_training_path(path):
    names = path.first["competitor_names"]
    found = dict(zip(names, path["competitors"].T, strict=True))
    assert "Here TwoNN lies below the tree's dimension" in TEXT
    assert (found["TwoNN"] < path["dimension"]).all()
    assert "on most paths the estimators disagree widely" in TEXT
    low = np.min([path["dimension"], *found.values()], axis=0)
    high = np.max([path["dimension"], *(found[name] for name in names if "PCA" not in name)], axis=0)
    assert (high - low > 0.4).sum() == 4


def test_loops(path):
    counts = [len(run["h1"]) for run in path]
    assert "a point far above the diagonal. There is none. Some runs have no loop at all" in TEXT
    assert counts.count(0) == 2
    assert "the few loops of the others die almost as soon as they are born" in TEXT
    assert max(counts) < 3
    births, deaths = np.concatenate([run["h1"] for run in path]).T
    assert (deaths / births).max() < 1.15


def test_directions_and_lengths(null):
    equal, walk = null["same directions, equal lengths"], null["orthogonal, equal lengths"]
    assert "With all steps made equally long, the runs come much closer to each other" in TEXT
    assert np.ptp(equal) < np.ptp(null["path"]) / 2
    assert (
        "and close to a random walk of as many orthogonal steps (all carry the upward bias found above)"
        in TEXT
    )
    assert np.abs(equal - walk).max() < 0.2
    assert min(equal.min(), walk.min()) > 2
    assert (
        "most of the difference between these runs is not in their directions. It is in their lengths" in TEXT
    )
    assert np.ptp(null["same lengths, orthogonal directions"]) > 1.5 * np.ptp(equal)
    assert "unequal lengths pull the estimate down, more in one run than in the next" in TEXT
    pulled = equal - null["path"]
    assert pulled.min() > 0.3
    assert np.ptp(pulled) > 0.3
    assert "shuffled, they give a lower number" in TEXT
    assert (null["same steps, shuffled"] < null["path"]).all()


def medians(lengths, parts):
    """Median length of the steps in consecutive parts of a window, or of several; parts are the first axis."""
    return np.stack([np.median(part, axis=-1) for part in np.array_split(lengths, parts, axis=-1)])


def test_steps_shrink(path):
    tenths = medians(path["step_lengths"], 10)
    assert (
        "in most runs the steps shrink as the loss falls, by an order of magnitude or more within the window"
        in TEXT
    )
    assert (tenths[0] / tenths[-1] > 10).sum() == 4


def test_the_run_that_converged_last(path):
    last = int(path["steps"].argmax())
    others = [k for k in range(len(path)) if k != last]
    assert "The run that converged last had a small loss already at the start of its window" in TEXT
    start = np.array([np.mean(run["losses"][-1000:-950]) for run in path])
    assert start[last] < start[others].min() / 10
    lengths = path["step_lengths"]
    assert "Its steps are short throughout, the longest twentieth of them makes two fifths of the way" in TEXT
    parts = medians(lengths, 40)
    assert (parts[:, last] < parts[:, others].min(axis=1)).all()
    longest = np.sort(lengths[last])[-len(lengths[last]) // 20 :]
    assert longest.sum() / lengths[last].sum() == pytest.approx(0.4, abs=0.03)
    assert "and its dimension is the lowest" in TEXT
    assert path["dimension"].argmin() == last


def test_runs_that_differ(path):
    draws = path["one_draw_dimensions"]
    assert "with a single draw, runs that differ cannot always be told apart" in TEXT
    order = path["dimension"].argsort()
    assert any(draws[low].max() > draws[high].min() for low, high in pairwise(order))
    assert "the dimension moves by several tenths" in TEXT
    assert 0.3 < np.ptp(path["dimension"]) < 0.8


# --- the grid -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grid(chapter):
    (found,) = grids(chapter.stored["gap_grid"])
    return found


@pytest.fixture(scope="module")
def tau(grid):
    """Kendall's tau of each measure with the gap, over cells."""
    return {name: kendall(column, grid.cells.gap) for name, column in grid.cells.measures.items()}


def test_dimension_and_gap(grid):
    assert (
        "runs with a higher dimension have, on the whole, a larger gap, among all runs and among those"
        in TEXT
    )
    for part in (grid, grid.where(grid.converged)):
        assert permutation_test(part.cells.dimension, part.cells.gap).p_value < 0.05
    assert "the batch size mostly sets the dimension" in TEXT
    assert kendall(grid.cells.dimension, grid.cells.batch) > 0.8
    assert abs(kendall(grid.cells.dimension, grid.cells.rate)) < 0.1


def test_what_the_window_holds(chapter):
    runs = chapter.stored["gap_grid"]
    share = 1000 / runs["steps"]
    assert "six of 32, five of them at batch size 16" in TEXT
    assert len(runs) == 32
    assert sorted(runs["batch"][~runs["converged"]]) == [16] * 5 + [64]
    assert "At batch size 16 that is a sixth of the run" in TEXT
    assert share[runs["batch"] == 16] == pytest.approx(1 / 6, abs=0.015)
    assert "at batch size 128 and the two largest learning rates it is 62 to 91 %" in TEXT
    most = share[(runs["batch"] == 128) & (runs["learning_rate"] >= 0.1)]
    assert (round(most.min(), 3), round(most.max(), 2)) == (0.625, 0.91)


def test_learning_rate_and_gap(grid):
    cells = grid.cells
    falls = {
        batch: np.diff(cells.gap[cells.batch == batch][cells.rate[cells.batch == batch].argsort()]) < 0
        for batch in np.unique(cells.batch)
    }
    assert "at batch sizes 32 to 128, the larger the learning rate, the smaller the mean gap" in TEXT
    assert all(falls[batch].all() for batch in (32, 64, 128))
    assert "and nearly so at 16, where most runs did not converge" in TEXT
    assert falls[16].tolist().count(False) == 1
    assert grid.converged[grid.batch == 16].mean() < 0.5


def test_gap_in_loss(grid):
    assert "the gap hardly correlates with the dimension at all, nor with any other measure here" in TEXT
    cells = replace(grid.cells, gap=grid.cells.loss_gap)
    assert max(abs(kendall(column, cells.gap)) for column in cells.measures.values()) < 0.25
    assert abs(kendall(cells.dimension, cells.gap)) < 0.05


def test_simple_measures(grid, tau):
    ours = tau["PH dimension"]
    assert (
        "orders the gaps far better than the dimension does, and so does the norm of the final weights"
        in TEXT
    )
    assert "a larger ratio and a larger norm go with a smaller gap" in TEXT
    assert max(tau["lr / batch"], tau["norm of the weights"]) < -1.8 * ours < 0
    assert "Among the dimensions, the plain correlation dimension has the largest $\\tau$" in TEXT
    dimensions = ("PH dimension", "TwoNN dimension", "correlation dimension", "PH dimension, in losses")
    assert max(dimensions, key=tau.get) == "correlation dimension"
    assert "with an interval that overlaps that of the tree's dimension" in TEXT
    cells = grid.cells
    low = np.nanquantile(bootstrap_kendall(cells.measures["correlation dimension"], cells.gap), 0.025)
    assert low < np.nanquantile(bootstrap_kendall(cells.dimension, cells.gap), 0.975)
    assert "The metric of losses does not help the dimension." in TEXT
    assert "report better granulated correlations" in TEXT
    assert "On our small grid, on the window before the stop, the first does no better" in TEXT
    assert tau["PH dimension, in losses"] < ours
    assert "The rival in the criterion is the best one in these data" in TEXT
    assert max(SIMPLE, key=lambda name: abs(tau[name])) == "lr / batch"
    assert "it orders these gaps with $|\\tau|$ of about 0.9" in TEXT
    assert abs(tau["lr / batch"]) == pytest.approx(0.9, abs=0.05)


def test_lengths_and_magnitudes(grid, tau):
    ours = tau["PH dimension"]
    assert "The lifetime sum is a little stronger by size, with the opposite sign" in TEXT
    assert (
        "the lifetime sum is a little stronger by size and the magnitude a little weaker, both with the"
        in TEXT
    )
    assert -ours - 0.2 < tau["lifetime sum"] < -ours
    assert -ours < tau["positive magnitude"] < 0.2 - ours
    assert "as large learning rates make long steps" in TEXT
    assert kendall(grid.rate, grid.measures["lifetime sum"]) > 0.7
    assert "either half of a path alone correlates with the gap no less than the whole does" in TEXT
    assert min(tau["step lengths only"], tau["step directions only"]) >= ours


def test_directions_over_the_grid(chapter, grid):
    runs = chapter.stored["gap_grid"]
    walk = runs["surrogate_dimensions"][:, list(runs.first["surrogates"]).index("orthogonal, equal lengths")]
    above = grid.measures["step directions only"] > walk
    assert "lies mostly below that of a walk at batch size 16, and above it at 64 and 128" in TEXT
    assert above[grid.batch == 16].mean() <= 0.25
    assert above[grid.batch >= 64].all()


# --- with the knobs held fixed ------------------------------------------------------------------------------


def partial(cells, name):
    """Correlation with the gap given learning rate, batch size and their ratio."""
    given = {"rate": cells.rate, "batch": cells.batch, "ratio": cells.ratio}
    column = cells.measures[name]
    return {
        key: partial_kendall(column, cells.gap, each, alternative="two-sided") for key, each in given.items()
    }


def test_dimension_with_a_knob_held_fixed(grid):
    cells = grid.cells
    found = partial(cells, "PH dimension")
    assert "On the window before the stop, the correlation survives a fixed learning rate" in TEXT
    assert found["rate"].tau > 0.4
    assert found["rate"].p_value < 0.01
    assert "Given the batch size it is near zero on average" in TEXT
    assert abs(found["batch"].tau) < 0.1
    assert "the panels agree for small batches and disagree for large ones" in TEXT
    panels = [grid.where(grid.batch == batch) for batch in (16, 32, 64, 128)]
    signs = np.sign([kendall(panel.dimension, panel.gap) for panel in panels])
    assert signs.tolist() == [1, 1, -1, -1]
    assert "Given the ratio of the two, nothing is seen" in TEXT
    assert abs(found["ratio"].tau) < 0.1
    assert "though sixteen cells are few, and holding the ratio fixed leaves groups of one to three" in TEXT
    assert len(cells.gap) == 16
    assert set(np.unique(cells.ratio, return_counts=True)[1]) == {1, 2, 3}
    along = granulated_kendall(cells.dimension, cells.gap, {"rate": cells.rate, "batch": cells.batch}).of
    assert (
        "where only the batch size varies the orders agree; where only the learning rate varies, they do"
        in TEXT
    )
    assert along["batch"] > 0.9
    assert abs(along["rate"]) < 0.1


def test_other_measures_with_a_knob_held_fixed(grid):
    cells = grid.cells
    lengths = [
        name + where for name in ("lifetime sum", "positive magnitude") for where in ("", ", in losses")
    ]
    assert "the lifetime sum and the magnitudes follow the learning rate" in TEXT
    assert "so they survive a fixed batch size and not a fixed learning rate" in TEXT
    for name in lengths:
        assert kendall(cells.measures[name], cells.rate) > kendall(cells.measures[name], cells.batch)
        found = partial(cells, name)
        assert found["batch"].p_value < 0.01
        assert found["rate"].p_value > 0.05
    assert "The norm follows both knobs" in TEXT
    norm = cells.measures["norm of the weights"]
    assert kendall(norm, cells.rate) > 0.4
    assert kendall(norm, cells.batch) < -0.4
    assert "Given their ratio, next to nothing is left of any measure" in TEXT
    assert max(abs(partial(cells, name)["ratio"].tau) for name in (*lengths, "norm of the weights")) < 0.2


def test_two_ends_of_the_grid(chapter):
    runs = [run for run in chapter.stored["gap_grid"] if run["converged"]]
    gaps = [run["train_accuracy"] - run["test_accuracy"] for run in runs]
    small, large = runs[np.argmin(gaps)], runs[np.argmax(gaps)]
    assert (
        "it makes large steps early in its window and then slows down, while the other creeps evenly" in TEXT
    )
    fast, even = (medians(run["step_lengths"], 10) for run in (small, large))
    assert fast[:3].min() > 20 * fast[-3:].max()
    assert even.max() < 2 * even.min()
    assert "The path with the small gap is not the one that hardly moves" in TEXT
    assert small["diameter"] > 5 * large["diameter"]
    assert "on the shared scale its distances all but vanish" in TEXT
    assert np.median(large["picture"]) < small["picture"].max() / 20
    assert "Its learning rate is also ten times larger" in TEXT
    assert small["learning_rate"] == pytest.approx(10 * large["learning_rate"])


def test_one_fixed_order(chapter, path):
    fixed = chapter.stored["fixed_order"]
    assert "the seeds of either kind spread much wider than the two kinds differ" in TEXT
    between = abs(path["dimension"].mean() - fixed["dimension"].mean())
    assert between < min(np.ptp(path["dimension"]), np.ptp(fixed["dimension"])) / 5
    anew, same = (100 * (runs["train_accuracy"] - runs["test_accuracy"]) for runs in (path, fixed))
    wider = same - anew
    assert (
        f"The gap is larger in one fixed order for every seed, by {wider.mean():.1f} points in the mean, half of that"
        in TEXT
    )
    assert path.seeds == fixed.seeds
    assert (wider > 0).all()
    assert wider.max() / wider.sum() == pytest.approx(0.5, abs=0.05)


# --- speed and exercises ------------------------------------------------------------------------------------


def test_speed(chapter):
    seconds = {}
    for row in chapter.benchmark()["rows"]:
        if row["task"] == "H0 lifetimes":
            seconds.setdefault(row["n"], {})[row["method"].removesuffix(", matrix already checked")] = row[
                "seconds"
            ]
    fastest = {n: min(one, key=one.get) for n, one in seconds.items()}
    assert "Up to a thousand points it is the fastest route; for several thousand our own Prim is" in TEXT
    assert {fastest[n] for n in (200, 500, 1000)} == {"loupe linkage"}
    assert {fastest[n] for n in (2000, 5000)} == {"loupe prim"}


def test_ten_draws_take_less_than_distances(chapter, path):
    rows = chapter.benchmark()["rows"]
    one = next(row["seconds"] for row in rows if row["method"] == "loupe ph_dimension" and row["P"] == 10)
    distances = next(row for row in rows if row["task"].startswith("distances"))
    assert "takes a few tenths of a second, less than the distances of a network's path do" in TEXT
    assert 0.1 < 10 * one < 1
    assert 10 * one < distances["seconds"] * path.first["parameters"] / distances["P"]


def test_a_cell_of_the_grid(chapter, grid):
    assert (
        "--seed 38`. Which cell is it, and how far are its gap and dimension from those of seeds 6 and 22"
        in TEXT
    )
    assert 38 % len(grid.cells.gap) == 6
    runs = chapter.stored["gap_grid"]
    first, second = (runs.results[runs.seeds.index(seed)] for seed in (6, 22))
    assert (first["learning_rate"], first["batch"]) == (second["learning_rate"], second["batch"])
