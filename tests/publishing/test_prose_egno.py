"""What the paragraphs of the chapter egno say in numbers follows from its stored results."""

import numpy as np
import pytest
import torch
from prose import prose

import loupe
from loupe.dynamics import charged_windows
from loupe.papers.egno.claims import CLAIMS, of_windows, variants
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
    assert "with a fifth of the systems EGNN loses a fifth; EGNO loses a factor of four to six" in TEXT
    few = {name: ends(runs[f"{name} {count} errors"])[0] for name in ("EGNO", "EGNN")}
    assert few["EGNN"] / ends(charges["EGNN"]).mean() == pytest.approx(1.2, abs=0.05)
    low, high = sorted(few["EGNO"] / ends(charges["EGNO"]))
    assert low > 4
    assert high < 6.5
    assert "and is worse than straight lines" in TEXT
    assert few["EGNO"] > ends(charges["Linear"]).max()


# --- more times ---------------------------------------------------------------------------------------------


def rises(fine, usual):
    """At the times of training, asked among ten over asked alone: A-MSE, and means and medians at each time."""
    shared = fine[:, 1::2]
    whole = but_worst(shared.mean(1)[None]) / but_worst(usual.mean(1)[None])
    return (
        whole[0],
        but_worst(shared.T) / but_worst(usual.T),
        np.median(shared, axis=0) / np.median(usual, axis=0),
    )


def test_ten_times_from_five(stored, windows):
    runs = stored["charged_egno"]
    fine = of_windows(runs, "EGNO physical fine")
    whole, means, medians = rises(fine, of_windows(runs, "EGNO"))
    assert (
        f"A-MSE at the times of training rises by {100 * (whole - 1):.0f} %, at the first of them by two"
        in TEXT
    )
    assert means[0] == means.max() == pytest.approx(5 / 3, abs=0.1)
    assert (
        "medians rise up to fourfold. At new times between them the error is about that of their neighbours"
        in TEXT
    )
    assert medians.max() == pytest.approx(4, abs=0.5)
    errors = but_worst(fine.T)
    beside = 2 * errors[2::2] / (errors[1:-1:2] + errors[3::2])
    assert beside == pytest.approx(np.ones(4), abs=0.35)
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


def test_order_at_the_end_after_long_training(late, long):
    means = {name: errors[..., -1].mean(1) for name, errors in late.items()}
    ahead = [f"{100 * each:.0f}" for each in 1 - means["EGNO"] / means["EGNN"]]
    assert (
        f"EGNO is ahead of EGNN for each of three seeds: by {ahead[0]}, {ahead[1]} and {ahead[2]} %" in TEXT
    )
    assert (means["EGNO"] < means["EGNN"]).all()
    off = np.sqrt(late["EGNN"][2, 584, -1])
    assert f"and on one test system (that of above) it is off by {off:.1f}" in TEXT
    losses = long["EGNN"].results[2]["EGNN losses"]
    every = loupe.open_chapter("egno", preset="gpu").config.training.steps // len(losses)
    late_peak = losses[5:].argmax() + 5
    assert f"its loss jumps to {losses[late_peak]:.0f} at step {every * late_peak:,}" in TEXT
    margins = [f"{100 * each:.0f}" for each in 1 - ends(late["EGNO"]) / ends(late["EGNN"])]
    assert f"worst system left out the margins are {margins[0]}, {margins[1]} and {margins[2]} %" in TEXT
    medians = {name: np.median(errors[..., -1], axis=1) for name, errors in late.items()}
    assert "Medians give no order: EGNN's is lower for seed 0" in TEXT
    assert (medians["EGNN"] < medians["EGNO"]).tolist() == [True, False, False]
    assert "EGNN-S is about as good as EGNN at the end, and has the lowest median of all" in TEXT
    assert ends(late["EGNN-S"]).mean() == pytest.approx(ends(late["EGNN"]).mean(), rel=0.1)
    assert all((medians["EGNN-S"] <= each).all() for each in medians.values())
    assert "EGNO is ahead of it for two seeds and behind for one" in TEXT
    assert sorted(means["EGNO"] > means["EGNN-S"]) == [False, False, True]
    assert "RF again does not train for one seed" in TEXT
    assert sorted(means["RF"] > means["Linear"]) == [False, False, True]


def test_interval_of_the_order_at_the_end():
    (claim,) = (claim for claim in CLAIMS if claim.id == "EG4b")
    (judgement,) = loupe.open_chapter("egno", preset="gpu").judge([claim])
    assert (
        "Over seeds and systems together the interval contains 1, with and without the worst systems, so"
        in TEXT
    )
    assert judgement.verdict == "inconclusive"
    for measure in judgement.measures:
        assert measure.low < 1 < measure.high


def test_one_pass_and_the_batch():
    rows = [
        row
        for row in loupe.open_chapter("egno", preset="cpu").benchmark()["rows"]
        if "aim, times ours" in row
    ]
    times = {
        row["systems"]: f"{row['wall, times ours']:.1f}"
        for row in rows
        if row["task"].startswith("One forward")
    }
    assert (
        f"One pass is {times[1]} and {times[10]} times as fast for 1 and 10 systems in a batch, and {times[100]} times"
        in TEXT
    )


def test_overfitting(long):
    ends = [run["EGNO losses"][-len(run["EGNO losses"]) // 10 :].mean() for run in long["EGNO"]]
    test = [run["EGNO errors"].mean() for run in long["EGNO"]]
    assert (
        f"its loss is {min(ends):.4f} to {max(ends):.4f}, its A-MSE on test systems {min(test):.4f} to"
        in TEXT
    )
    assert f"to {max(test):.4f}." in TEXT


def test_the_convolution_depends_on_the_number_of_times():
    found = []
    for P in (5, 10, 40):
        times = np.arange(1, P + 1) / P
        kept = np.fft.rfft(times)
        kept[2:] = 0
        found.append(np.fft.irfft(kept, n=P)[[P // 5 - 1, -1]])
    (a, b, c), ends = np.transpose(found)
    assert f"The result at $t=0.2$ is {a:.2f} for 5 times, {b:.2f} for 10 and {c:.2f} for 40" in TEXT
    assert "at the end of the window it is {:.2f}, {:.2f} and {:.2f}".format(*ends) in TEXT


def test_whole_window_after_long_training(late):
    ours, theirs, rolled = (late[name].mean(1) for name in ("EGNO", "EGNN-S", "EGNN-R"))  # (seeds, times)
    assert "EGNO's error is a third to two fifths below that of EGNN-S, for each seed" in TEXT
    below = np.sort(1 - ours.mean(1) / theirs.mean(1))
    assert below == pytest.approx([0.33, 0.375, 0.41], abs=0.02)
    assert "Three quarters of that difference come from the second and third time" in TEXT
    apart = (theirs - ours).mean(0)
    assert apart[1:3].sum() / apart.sum() == pytest.approx(0.75, abs=0.06)
    others = [0, 3, 4]
    less = 1 - ours[:, others].mean() / theirs[:, others].mean()
    assert f"At the other three times EGNO is {100 * less:.0f} % below it" in TEXT
    lost = (late["EGNN-R"][..., -1] > GONE_ASTRAY).sum(1)
    assert "and loses up to nine of 2,000 systems at the end, which make its mean" in TEXT
    assert lost.max() == 9
    assert (
        "For seed 2 it loses one, by little, and EGNO's error over the window is about half of its own"
        in TEXT
    )
    assert lost[2] == 1
    assert late["EGNN-R"][2].max() < 4
    assert ours[2].mean() / rolled[2].mean() == pytest.approx(0.5, abs=0.05)


def test_two_answers_of_layer_by_layer_are_one(long):
    assert "EGNN-S, with fewer layers than times, must give the same prediction" in TEXT
    for run in long["EGNN-S"]:
        assert np.array_equal(run["EGNN-S shown"][:, 1], run["EGNN-S shown"][:, 2])


def test_what_nobody_could_confirm_stands_nowhere():
    for number in ("0.0054", "0.0071", "0.0819", "0.0215", "14.41", "2.735"):
        assert number not in TEXT


def test_when_long_training_is_at_its_best(long):
    best = {
        name: [run[f"{name} steps"][run[f"{name} valid"].argmin()] for run in long[name]]
        for name in ("EGNO", "EGNN-S")
    }
    ours, theirs = (f"{min(steps):,} to {max(steps):,}" for steps in best.values())
    assert f"EGNO's best states come after {ours} steps, those of EGNN-S after {theirs}" in TEXT
    assert "for two seeds EGNN-S gets worse from there" in TEXT
    rise = [run["EGNN-S valid"][-1] / run["EGNN-S valid"].min() for run in long["EGNN-S"]]
    assert [each > 1.1 for each in rise].count(True) == 2
    assert (
        "After as much processor time as EGNN took (the lower panel), EGNO is behind on validation systems"
        in TEXT
    )
    done = []
    for run, other in zip(long["EGNO"], long["EGNN"], strict=True):
        in_time = run["EGNO clock"] <= other["EGNN clock"][-1]
        assert run["EGNO valid"][in_time].min() > other["EGNN valid"].min()
        done.append(run["EGNO steps"][in_time][-1])
    assert f"it has made only {min(done):,} to {max(done):,} of its 20,000 steps then" in TEXT


def test_symmetry_after_long_training(long, late):
    off = np.sqrt(late["EGNO"][:, 584])
    assert f"EGNO is now off by {off.min():.1f} to {off.max():.1f}; EGNN still by" in TEXT
    positions = charged_windows("train", 3000, slices=1).positions
    assert (
        f"Training systems now reach distances of {torch.cdist(positions, positions).max():.1f} (26.6" in TEXT
    )
    assert "EGNO, EGNN and EGNN-S turn with their input to single precision, so EG1b is met" in TEXT
    assert all(
        run[f"{name} turned deviation"] < 1e-5 for name in ("EGNO", "EGNN", "EGNN-S") for run in long[name]
    )
    assert (
        "EGNN-R's paths are held within a distance of 100 of their start, which turns with the input" in TEXT
    )
    assert "For one seed its predictions do not" in TEXT
    assert sum(run["EGNN-R turned deviation"] > 1e-3 for run in long["EGNN-R"]) == 1


def test_ten_times_from_five_after_long_training(long):
    fine = of_windows(long["EGNO"], "EGNO physical fine")
    whole, means, medians = rises(fine, of_windows(long["EGNO"], "EGNO"))
    assert f"rises by a third, at the first of them {means[0]:.1f}-fold, and medians up to tenfold" in TEXT
    assert whole == pytest.approx(4 / 3, abs=0.03)
    assert means[0] == means.max()
    assert medians.max() == pytest.approx(10, abs=1)
    errors = but_worst(fine.T)
    assert "From the middle of the window on, new times are worse than both neighbours" in TEXT
    assert all(errors[k] > max(errors[k - 1], errors[k + 1]) for k in (4, 6, 8))
    shared = fine[:, 1::2].mean()
    with_first, without = fine[:, 0::2].mean() / shared, fine[:, 2::2].mean() / shared
    assert (
        f"A-MSE at new times is {with_first:.1f} times that at shared ones; without it, {without:.1f} times"
        in TEXT
    )
    each = [run["EGNO physical fine errors"] for run in long["EGNO"]]
    a, b, c = sorted(fine[:, 0::2].mean() / fine[:, 1::2].mean() for fine in each)
    assert f"By seed the factor is {a:.1f}, {b:.1f} and {c:.1f}" in TEXT
    assert with_first > 2
