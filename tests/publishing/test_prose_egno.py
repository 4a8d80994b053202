"""What the paragraphs of the chapter egno say in numbers follows from its stored results."""

import numpy as np
import pytest
import torch
from prose import prose

import loupe
from loupe.dynamics import charged_windows
from loupe.papers.egno.claims import of_windows, variants
from loupe.papers.egno.figures import HOLDER, but_worst

GONE_ASTRAY = 1.0  # of a squared error
TEXT = prose("egno")


@pytest.fixture(scope="module")
def stored():
    return loupe.open_chapter("egno", preset="cpu").stored


@pytest.fixture(scope="module")
def charges(stored):
    """Errors ``(seeds, S, P)`` of each method."""
    return {name: stored[holder][f"{name} errors"] for name, holder in HOLDER.items()}


def ends(errors):
    return but_worst(errors[..., -1])


def whole(errors):
    return but_worst(errors.mean(-1))


# --- charges ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windows():
    return {part: charged_windows(part, 1000, slices=10) for part in ("train", "test")}


def test_the_system_that_makes_means_is_far_from_training(windows, charges):
    largest = {
        part: torch.cdist(each.positions, each.positions).amax((1, 2)) for part, each in windows.items()
    }
    assert (
        f"Its largest distance is {largest['test'][584]:.1f} against at most {largest['train'].max():.1f}"
        in TEXT
    )
    assert "it has one of the fastest particles" in TEXT
    speeds = windows["test"].velocities.norm(dim=-1).amax(1)
    assert int((speeds > speeds[584]).sum()) < 10
    for name in ("EGNO", "EGNN"):
        assert (charges[name][..., -1].argmax(axis=1) == 584).all()


def test_how_far_it_is_off(charges):
    assert "EGNO is off by tens of units for seed 0" in TEXT
    assert 10 < np.sqrt(charges["EGNO"][0, 584]).max() < 100
    assert "by 2 to 3 for seed 1; EGNN is off by 3 for seed 1" in TEXT
    assert set(np.sqrt(charges["EGNO"][1, 584]).round()) == {2, 3}
    assert np.sqrt(charges["EGNN"][1, 584, -1]) == pytest.approx(3, abs=0.3)


def test_rollouts_that_go_astray(charges):
    counts = (charges["EGNN-R"][0] > GONE_ASTRAY).sum(0)
    words = ", ".join(map(str, counts[:-1])) + f" and {counts[-1]}"
    assert f"at the five times, {words} of 1,000 systems have an error above 1" in TEXT


def test_no_order_of_the_whole_window_after_few_steps(charges):
    ours, theirs = whole(charges["EGNO"]), whole(charges["EGNN-S"])
    assert (
        f"EGNO is behind EGNN-S for seed 0 ({ours[0]:.4f} against {theirs[0]:.4f}) and ahead for seed 1 "
        f"({ours[1]:.4f} against {theirs[1]:.4f})"
    ) in TEXT
    assert ours[0] > theirs[0]
    assert ours[1] < theirs[1]


def test_order_at_the_end_after_few_steps(charges):
    assert "at the end EGNN is best in the mean, EGNN-S follows, and EGNO is about where MPNN is" in TEXT
    means = {name: ends(errors).mean() for name, errors in charges.items()}
    assert sorted(means, key=means.get)[:2] == ["EGNN", "EGNN-S"]
    assert means["EGNO"] == pytest.approx(means["MPNN"], rel=0.15)
    medians = {name: np.median(errors[..., -1], axis=1).mean() for name, errors in charges.items()}
    assert "which has no symmetry and has the lower median" in TEXT
    assert medians["MPNN"] < medians["EGNO"]


def test_radial_field_that_did_not_train(stored, charges):
    assert "RF did not train for one seed: it ends worse than standing still" in TEXT
    still = stored["charged_others"]["still errors"][..., -1].mean(1)
    assert ((charges["RF"][..., -1].mean(1) > still).sum()) == 1


def test_fewer_systems(stored, charges):
    runs = stored["data_sizes"]
    (count,) = runs.first["sizes"]
    assert count == loupe.open_chapter("egno", preset="cpu").config.systems / 5
    assert "With a fifth of the systems EGNN loses a fifth; EGNO loses a factor of four to six" in TEXT
    few = {name: ends(runs[f"{name} {count} errors"])[0] for name in ("EGNO", "EGNN")}
    assert few["EGNN"] / ends(charges["EGNN"]).mean() == pytest.approx(1.2, abs=0.05)
    low, high = sorted(few["EGNO"] / ends(charges["EGNO"]))
    assert low > 4
    assert high < 6.5
    assert "and is worse than straight lines" in TEXT
    assert few["EGNO"] > ends(charges["Linear"]).max()


# --- more times ---------------------------------------------------------------------------------------------


def test_ten_times_from_five(stored, windows):
    fine = of_windows(stored["charged_egno"], "EGNO physical fine")
    usual = of_windows(stored["charged_egno"], "EGNO")
    rise = but_worst(fine[:, 1::2].T) / but_worst(usual.T)
    middle = np.median(fine[:, 1::2], axis=0) / np.median(usual, axis=0)
    assert "the error rises by up to two thirds (medians up to fourfold)" in TEXT
    assert rise.max() == pytest.approx(5 / 3, abs=0.1)
    assert middle.max() == pytest.approx(4, abs=0.5)
    errors = but_worst(fine.T)
    assert "it is larger by an order of magnitude, and ten times that of standing still" in TEXT
    assert 7 < errors[0] / errors[1:3].mean() < 20
    still = (windows["test"].targets[:, 0] - windows["test"].positions).square().mean()
    assert errors[0] / float(still) == pytest.approx(10, abs=1.5)


# --- parts --------------------------------------------------------------------------------------------------


def test_parts_after_few_steps(stored):
    errors = {name: but_worst(each[:, -1][None])[0] for name, each in variants(stored["ablations"]).items()}
    assert (
        "the full network is worse than one without any convolution and than one with that on features only"
        in TEXT
    )
    assert errors["full"] > max(errors["no convolution"], errors["only invariants"])
    assert (
        "The convolution on features helps by a tenth where that on vectors is absent, and by less where"
        in TEXT
    )
    absent = 1 - errors["only invariants"] / errors["no convolution"]
    assert absent == pytest.approx(0.1, abs=0.03)
    assert 0 < 1 - errors["full"] / errors["only vectors"] < absent
    assert "Two times are better than five here, ten worse" in TEXT
    assert errors["2 slices"] < errors["full"] < errors["10 slices"]


def test_how_straight_motions_are(stored):
    run = stored["spectra"].first
    share = {
        name: 1 - run[f"{name} bend"].sum() / run[f"{name} way"].sum()
        for name in ("charged", "run", "walk", "ethanol")
    }
    low, high = (
        round(100 * limit(share[name] for name in ("charged", "run", "walk"))) for limit in (min, max)
    )
    assert (
        f"For charges and people {low} to {high} % of the power of the way is a straight line; for ethanol half"
        in TEXT
    )
    assert share["ethanol"] == pytest.approx(0.5, abs=0.06)


# --- people and molecules -----------------------------------------------------------------------------------


def test_people_after_few_steps(stored):
    means = {
        what: {
            name: stored[what][f"{name} errors"].mean((0, 1))
            for name in ("Linear", "EGNN", "EGNN-S", "EGNN-R", "EGNO", "EGNO-L")
        }
        for what in ("running", "walking")
    }
    assert "EGNO is behind EGNN at the end of the window" in TEXT
    assert all(each["EGNO"][-1] > each["EGNN"][-1] for each in means.values())
    walk, run = means["walking"], means["running"]
    assert "Walking, both EGNO are behind straight lines at the end, and EGNO is so at every time" in TEXT
    assert min(walk["EGNO"][-1], walk["EGNO-L"][-1]) > walk["Linear"][-1]
    assert (walk["EGNO"] > walk["Linear"]).all()
    assert "twelvefold at the first" in TEXT
    assert walk["EGNO"][0] / walk["Linear"][0] == pytest.approx(12, abs=0.5)
    assert "EGNO is behind straight lines at the first two of five times and ahead after" in TEXT
    assert (run["EGNO"] > run["Linear"]).tolist() == [True, True, False, False, False]
    assert "it is ahead of EGNN-S at the middle three, and of EGNN-R only at the last" in TEXT
    assert (run["EGNO"] < run["EGNN-S"]).tolist() == [False, True, True, True, False]
    assert (run["EGNO"] < run["EGNN-R"]).tolist() == [False, False, False, False, True]


def test_ethanol_after_few_steps(stored):
    runs = stored["ethanol"]
    means = {name: of_windows(runs, name).mean(0) for name in ("still", "EGNN", "EGNN-S", "EGNN-R", "EGNO")}
    assert "At the end of the window all four networks are alike, a sixth below standing still" in TEXT
    for name in ("EGNN", "EGNN-S", "EGNN-R", "EGNO"):
        assert means[name][-1] / means["still"][-1] == pytest.approx(5 / 6, abs=0.02)
    below = [1 - means["EGNO"].mean() / means[name].mean() for name in ("EGNN-S", "EGNN-R")]
    assert "EGNO is 2 % below EGNN-S and EGNN-R" in TEXT
    assert [round(100 * each) for each in below] == [2, 2]
    assert "at the third time it is worse than standing still" in TEXT
    assert (means["EGNO"] > means["still"])[2]


# --- long training ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long():
    """Runs of each method at the preset gpu, three seeds."""
    stored = loupe.open_chapter("egno", preset="gpu").stored
    return {name: stored[holder] for name, holder in HOLDER.items()}


@pytest.fixture(scope="module")
def late(long):
    """Their errors ``(seeds, S, P)``."""
    return {name: runs[f"{name} errors"] for name, runs in long.items()}


def test_order_after_long_training(late):
    ahead = 100 * (1 - ends(late["EGNO"]) / ends(late["EGNN"]))
    assert (
        "EGNO is ahead of EGNN at the end of the window, for each of three seeds: "
        f"by {ahead.min():.0f} to {ahead.max():.0f} % without the worst system"
    ) in TEXT
    assert (late["EGNO"][..., -1].mean(1) < late["EGNN"][..., -1].mean(1)).all()
    assert "which EGNN loses for seed 2 (the system of above, again)" in TEXT
    assert late["EGNN"][2, 584, -1] > GONE_ASTRAY
    assert f"Reported is a margin of {100 * (1 - 0.0054 / 0.0071):.0f} %" in TEXT
    assert "EGNN-S is as good as EGNN at the end, and has the lowest median of all" in TEXT
    assert ends(late["EGNN-S"]).mean() == pytest.approx(ends(late["EGNN"]).mean(), rel=0.1)
    medians = {name: np.median(errors[..., -1], axis=1) for name, errors in late.items()}
    assert all((medians["EGNN-S"] <= each).all() for each in medians.values())
    assert "RF again does not train for one seed" in TEXT
    assert sorted(late["RF"][..., -1].mean(1) > late["Linear"][..., -1].mean(1)) == [False, False, True]


def test_whole_window_after_long_training(late):
    assert (
        "EGNO's error is a third to two fifths below that of EGNN-S, for each seed; reported is one half"
        in TEXT
    )
    below = np.sort(1 - late["EGNO"].mean((1, 2)) / late["EGNN-S"].mean((1, 2)))
    assert below == pytest.approx([0.33, 0.375, 0.41], abs=0.02)
    assert "EGNN-R still loses systems" in TEXT
    assert ((late["EGNN-R"] > GONE_ASTRAY).sum((1, 2)) > 0).all()


def test_errors_beside_those_reported(late):
    assert "Straight lines are as reported" in TEXT
    assert late["Linear"][..., -1].mean() == pytest.approx(0.0819, rel=0.05)
    assert "EGNO's errors are 1.7 times the reported ones; those of EGNN-S are 1.3 to 1.4 times" in TEXT
    over = {
        name: (late[name][..., -1].mean() / end, late[name].mean() / along)
        for name, end, along in (("EGNO", 0.0054, 0.0022), ("EGNN-S", 0.0070, 0.0045))
    }
    assert [f"{each:.1f}" for each in over["EGNO"]] == ["1.7", "1.7"]
    assert sorted(f"{each:.1f}" for each in over["EGNN-S"]) == ["1.3", "1.4"]
    assert "that of EGNN, without the worst system, is 1.3 times" in TEXT
    assert f"{ends(late['EGNN']).mean() / 0.0071:.1f}" == "1.3"


def test_when_long_training_is_at_its_best(long):
    best = [
        run[f"{name} steps"][run[f"{name} valid"].argmin()]
        for name in ("EGNO", "EGNN", "EGNN-S") for run in long[name]
    ]  # fmt: skip
    assert f"Best states come after {min(best):,} to {max(best):,} steps" in TEXT
    assert "after as much processor time as EGNN took, EGNO is behind for each seed" in TEXT
    for ours, theirs in zip(long["EGNO"], long["EGNN"], strict=True):
        in_time = ours["EGNO clock"] <= theirs["EGNN clock"][-1]
        assert ours["EGNO valid"][in_time].min() > theirs["EGNN valid"].min()


def test_symmetry_after_long_training(long, late):
    errors = late["EGNO"][:, 584]
    assert f"is foreseen by EGNO with errors from {errors.min():.2f} to {errors.max():.1f}" in TEXT
    assert "predictions of EGNO, EGNN and EGNN-S turn with their input to single precision" in TEXT
    assert all(
        run[f"{name} turned deviation"] < 1e-5 for name in ("EGNO", "EGNN", "EGNN-S") for run in long[name]
    )
    assert "EGNN-R's paths are held within 100 of their start in each coordinate, which does not turn" in TEXT
    assert sum(run["EGNN-R turned deviation"] > 1e-3 for run in long["EGNN-R"]) == 1


def test_ten_times_from_five_after_long_training(long):
    fine, usual = of_windows(long["EGNO"], "EGNO physical fine"), of_windows(long["EGNO"], "EGNO")
    shared = fine[:, 1::2].mean()
    assert "After long training the price at the times of training is a third" in TEXT
    assert shared / usual.mean() == pytest.approx(4 / 3, abs=0.03)
    with_first, without = fine[:, 0::2].mean() / shared, fine[:, 2::2].mean() / shared
    assert (
        f"with it A-MSE at new times is {with_first:.1f} times that at shared ones, and EG7 holds in part only"
        in TEXT
    )
    assert f"without it, {without:.1f} times" in TEXT
    assert with_first > 2
