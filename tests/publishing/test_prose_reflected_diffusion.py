"""What the paragraphs of the chapter reflected_diffusion say in numbers follows from its stored results."""

import numpy as np
import pytest
import torch
from prose import prose

import loupe
from loupe.diffusion.reflected.kernel import COSINES, REACH
from loupe.experiment.claims import t_interval
from loupe.experiment.results import stored_at
from loupe.networks.unet import make_unet
from loupe.papers.reflected_diffusion.claims import astray, excess_mass, guidance_weights, orders
from loupe.papers.reflected_diffusion.config import PRESETS
from loupe.papers.reflected_diffusion.experiments import SIGMAS
from loupe.papers.reflected_diffusion.figures_images import GUIDED, SAMPLERS
from loupe.papers.reflected_diffusion.figures_toys import METHODS

TEXT = prose("reflected_diffusion")
PUBLISHED_IMAGES, PUBLISHED_COSINES = 42, 20
LARGE = ("1", "2.5", "5", "10")  # weights of guidance


@pytest.fixture(scope="module")
def chapter():
    return loupe.open_chapter("reflected_diffusion", preset="cpu")


@pytest.fixture(scope="module")
def stored(chapter):
    return chapter.stored


# --- the kernel ---------------------------------------------------------------------------------------------


def test_terms_of_the_kernel():
    assert f"sums {PUBLISHED_IMAGES} images below it and {PUBLISHED_COSINES} cosines above" in TEXT
    assert "far from every image, with a third of the terms" in TEXT
    most = 4 * REACH[torch.float64] + 1
    assert most / PUBLISHED_IMAGES == pytest.approx(1 / 3, abs=0.05)
    assert max(COSINES.values()) < PUBLISHED_COSINES / 3


def test_noise_of_the_comparison():
    assert "in double precision, over nearly four decades of noise" in TEXT
    assert 3.6 < np.log10(SIGMAS[-1] / SIGMAS[0]) < 4


def test_time_of_exponentials(chapter):
    assert "At the noise of training about half of its time or more goes into exponentials" in TEXT
    times = {}
    for row in chapter.benchmark()["rows"]:
        if row["task"] == "The kernel's score" and row["noise"].startswith("training"):
            times.setdefault((tuple(row["shape"]), row["noise"]), {})[row["method"]] = row["ms"]
    shares = [1 - each["re-statement with exp2"] / each["re-statement"] for each in times.values()]
    assert len(shares) > 4
    assert min(shares) > 0.45
    assert np.median(shares) > 0.5
    assert all(each["loupe"] < each["re-statement with exp2"] for each in times.values())


def test_kernel_beside_the_network(chapter):
    assert "so it must cost nothing beside the network" in TEXT
    rows = [row for row in chapter.benchmark()["rows"] if row["task"] == "The kernel in a training step"]
    assert "In a step of training of two small U-Nets" in TEXT
    assert len(rows) == 2
    assert max(row["share of noising and score"] for row in rows) < 0.02


def test_sizes_of_the_compared_networks(chapter):
    assert "At about equal size, steps of training on one thread" in TEXT
    sizes = {}
    for row in chapter.benchmark()["rows"]:
        if row["task"] == "U-Nets":
            sizes.setdefault(row["network"], {})[row["method"]] = row["parameters"]
    for each in sizes.values():
        assert each["loupe"] == pytest.approx(each["diffusers"], rel=0.02)


# --- the way back -------------------------------------------------------------------------------------------


def test_orders_of_walls(stored):
    assert "Theory gives it an error like one over the square root of the number of steps" in TEXT
    assert "that of folding falls like one over the number" in TEXT
    run = stored["thresholding"].first
    fold, clip = orders(run)
    assert fold == pytest.approx(-1, abs=0.1)
    assert clip > fold + 0.3
    assert (
        "The local slopes of clipping lie between −0.47 and −0.39 and have not settled at −1/2 by 256 steps"
        in TEXT
    )
    local = np.diff(np.log(run["distance_clip"])) / np.diff(np.log(run["path_steps"]))
    assert (round(local.min(), 2), round(local.max(), 2)) == (-0.47, -0.39)
    assert run["path_steps"][-1] == 256


def test_true_flow_stays_inside(stored):
    run = stored["identities"].first
    assert "The true score does not point through walls, so the true flow never leaves" in TEXT
    assert run["flow_lowest"] >= 0
    assert run["flow_highest"] <= 1


def test_learned_densities(stored):
    assert "at most 1; ours is between 1.09 and 1.59 in the five seeds" in TEXT
    mass = excess_mass(stored["toys_reflected"])
    assert [round(each, 2) for each in sorted(mass)][:: len(mass) - 1] == [1.09, 1.59]
    assert len(mass) == 5


def test_how_close_the_bound_comes(stored):
    runs = stored["grey_bound"]
    over = (runs["bound"] - runs["surprise"]).mean(1)
    words = ", ".join(f"{abs(each):.2f}" for each in over[:2]) + f" and {over[2]:.2f}"
    assert (over > -0.005).all()
    assert f"it lies {words} bits per dimension above the true bits of the same points" in TEXT


# --- the square and the triangle ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def square(stored):
    """Of each sampler and law: distances, and the shares of points at walls, over seeds."""
    return {
        (name, toy): tuple(stored[experiment][f"{toy} {key} {what}"] for what in ("distance", "at walls"))
        for name, (experiment, key, _) in METHODS.items()
        for toy in ("squares", "corners")
    }


@pytest.fixture(scope="module")
def at_walls(stored):
    """The share of data at walls, of each law."""
    return {toy: stored["toys_reflected"][f"{toy} data at walls"].mean() for toy in ("squares", "corners")}


def apart(first, second):
    """Whether intervals of two means do not overlap, the first below the second."""
    return t_interval(first.tolist())[1] < t_interval(second.tolist())[0]


def test_estimate_below_zero(stored):
    assert "an unbiased estimate that falls below 0 about half the time when laws agree" in TEXT
    floors = [stored["toys_reflected"][f"{toy} floor"] for toy in ("squares", "corners")]
    assert np.mean(np.array(floors) < 0) == pytest.approx(0.5, abs=0.2)


def test_twins_cannot_be_told_apart(stored, square):
    assert (
        "On the chessboard the reflected twin is a little nearer on average, on the corners the other one, "
        "both within the intervals"
    ) in TEXT
    gaps = {toy: square["reflected", toy][0] - square["static", toy][0] for toy in ("squares", "corners")}
    assert gaps["squares"].mean() < 0 < gaps["corners"].mean()
    for each in gaps.values():
        low, high = t_interval(each.tolist())
        assert low < 0 < high
    assert "neither has learned the chessboard well in 3,000 steps" in TEXT
    floor = stored["toys_reflected"]["squares floor"]
    assert min(square[name, "squares"][0].mean() for name in ("reflected", "static")) > 2 * floor.max()


def test_clipping_is_farther_than_folding(square, at_walls):
    assert "is farther than folding on the chessboard (on the corners the intervals overlap)" in TEXT
    assert apart(square["reflected", "squares"][0], square["clip", "squares"][0])
    assert not apart(square["reflected", "corners"][0], square["clip", "corners"][0])
    assert (
        "and leaves more points at walls than data have, on both laws; folding leaves slightly fewer" in TEXT
    )
    for toy, share in at_walls.items():
        assert share < square["clip", toy][1].min()
        assert 0.8 * share < square["reflected", toy][1].mean() < share


def test_points_at_walls_by_flow(square, at_walls):
    assert "The mollified flow leaves about half as many" in TEXT
    assert "The flow on the unfolded strip comes much closer" in TEXT
    for toy, share in at_walls.items():
        mollified, plain = (square[name, toy][1].mean() for name in ("mollified", "flow"))
        assert mollified / share == pytest.approx(0.5, abs=0.07)
        assert abs(plain - share) < 0.6 * abs(mollified - share)


def test_logits_are_far_off(square):
    assert "Logits are far off on the chessboard" in TEXT
    others = [square[name, "squares"][0].mean() for name in METHODS if name != "logit"]
    assert square["logit", "squares"][0].mean() > 2 * max(others)


def test_less_noise_costs_nothing(chapter, square):
    sigma = chapter.config.short_sigma
    digits, power = f"{2 * np.exp(-((np.pi * sigma) ** 2) / 2):.0e}".split("e")
    assert rf"$\sigma={sigma}$ in place of 5, costs nothing that can be measured" in TEXT
    assert rf"each coordinate is uniform to ${digits}\cdot10^{{{int(power)}}}$" in TEXT
    for toy in ("squares", "corners"):
        gap = square["short", toy][0] - square["reflected", toy][0]
        assert gap.mean() < 0
        assert t_interval(gap.tolist())[1] > 0


def test_broken_sticks(stored):
    assert (
        "they differ from 0 by no more than about twice what other data of the same distribution do, in one seed"
        in TEXT
    )
    run = stored["simplex"].first
    for name in ("reflected", "none"):
        assert abs(run[f"simplex {name} distance"]) < 2 * run["simplex floor"]
    assert len(stored["simplex"]) == 1


# --- images -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(stored):
    return stored["images_reflected"].first


@pytest.fixture(scope="module")
def theirs(stored):
    return stored["images_exploding"].first


def test_rows_that_hold_to_scale(stored, ours):
    assert "Two rows hold it to scale, as many training images as samples, and uniform noise" in TEXT
    assert "the first is flattered in class score and right class" in TEXT
    for experiment, name in SAMPLERS.values():
        run = stored[experiment].first
        assert ours["train distance"] < run[f"{name} distance"] < ours["noise distance"]
        for what in ("class score", "accuracy"):
            assert ours[f"train {what}"] > run[f"{name} {what}"]


def test_images_are_not_in_favour_of_walls(ours, theirs):
    assert (
        "the classifier Fréchet distance is larger with walls than with the static threshold, by more" in TEXT
    )
    assert ours["fold distance"] > 1.1 * theirs["static distance"]
    assert "and fewer images are of the class asked for" in TEXT
    assert ours["fold accuracy"] < theirs["static accuracy"]
    assert "Sliced W₂ leans the other way, slightly" in TEXT
    assert 0 < theirs["static sliced"] - ours["fold sliced"] < 0.005
    assert "with none before the end the twin does as well" in TEXT
    assert theirs["none distance"] <= theirs["static distance"]


def test_other_samplers_of_images(chapter, ours, theirs):
    assert "Folding is nearer than clipping each step, for the same network" in TEXT
    assert ours["fold distance"] < ours["clip distance"]
    config = chapter.config
    assert rf"Beginning from $\sigma={config.short_sigma}$ is no worse than from {config.sigma_max:g}" in TEXT
    assert ours["short distance"] <= ours["fold distance"]
    assert "the first fifth of the schedule moves through uniform noise" in TEXT
    share = np.log(config.sigma_max / config.short_sigma) / np.log(config.sigma_max / config.sigma_min)
    assert share == pytest.approx(0.2, abs=0.01)
    assert (
        "is nearer than the mollified one, at a dozen evaluations more, and with fewer stuck pixels" in TEXT
    )
    assert ours["flow distance"] < ours["mollified distance"]
    assert ours["flow evaluations"] - ours["mollified evaluations"] == 12
    assert ours["flow bright"] < ours["mollified bright"]
    assert "The dynamic threshold, made for large guidance, greys the background" in TEXT
    assert theirs["dynamic dark"] < theirs["static dark"] - 0.05


def test_classes_under_guidance(stored, theirs):
    assert "With weight 1 or more every sampler is given the right class for nearly all images" in TEXT
    right = {
        (name, weight): stored[experiment].first[f"{key} w={weight} accuracy"]
        for name, (experiment, key, _, _) in GUIDED.items()
        for weight in LARGE
    }
    lost = {which for which, share in right.items() if share < 0.98}
    assert "only the dynamic threshold loses it again at 5 and 10" in TEXT
    assert lost == {("no walls, dynamic", weight) for weight in ("5", "10")}
    assert "The dynamic threshold drowns digits in grey" in TEXT
    assert theirs["dynamic w=10 dark"] + theirs["dynamic w=10 bright"] < 0.01


def test_pixels_under_guidance(ours, theirs):
    weights = guidance_weights(ours)
    assert "Without walls the flow overshoots, the more the larger the weight" in TEXT
    assert (np.diff([theirs[f"flow w={weight} overshoot"] for weight in weights]) > 0).all()
    assert "Between walls strokes grow bold and stay inside" in TEXT
    for name in ("fold", "flow"):
        assert (np.diff([ours[f"{name} w={weight} bright"] for weight in weights]) > 0).all()
        assert all(ours[f"{name} w={weight} outside"] == 0 for weight in weights)
    bright = {name: ours[f"{name} w=10 bright"] for name in ("fold", "flow", "mollified")}
    assert "at $w=10$ the reflected steps have more fully bright pixels than the static threshold" in TEXT
    assert bright["fold"] > theirs["static w=10 bright"]
    assert "and the reflected flow nearly as many as the flow without walls" in TEXT
    assert 0.85 < bright["flow"] / theirs["flow w=10 bright"] < 1
    assert "without the mollifier the same network has fewer, and still stays inside" in TEXT
    assert bright["flow"] < bright["mollified"]


def test_pixels_astray_under_guidance(chapter, ours, theirs):
    off = [100 * astray(run, name) for run, name in ((ours, "fold w=10"), (theirs, "static w=10"))]
    assert (
        f"At $w=10$ the shares of dark and of bright pixels are astray by {off[0]:.1f} % with reflected steps and by "
        f"{off[1]:.1f} % with the static threshold, mostly because backgrounds turn grey"
    ) in TEXT
    for run, name in ((ours, "fold w=10"), (theirs, "static w=10")):
        assert 100 * (run["train dark"] - run[f"{name} dark"]) > 50 * astray(run, name)
    assert "of bright pixels alone the reflected steps have more in excess" in TEXT
    assert ours["fold w=10 bright"] > theirs["static w=10 bright"] > theirs["train bright"]
    assert f"This is one seed of {chapter.config.guided} images" in TEXT


def test_bits_of_images(chapter, theirs):
    bits, sigma = theirs["bits"].mean(), chapter.config.sigma_min
    assert f"the {bits:.2f} bits that an earlier version showed for the twin without walls" in TEXT
    assert f"are fewer than any density with noise of {sigma} can have" in TEXT
    assert bits < 8 - np.log2(1 / (sigma * np.sqrt(2 * np.pi)))


# --- limitations --------------------------------------------------------------------------------------------


def test_sizes(chapter, ours, theirs):
    assert (
        "Images are digits of 16 by 16 pixels, from one seed, and networks have a quarter of a million parameters"
        in TEXT
    )
    assert ours["data"].shape[-2:] == (16, 16)
    assert ours["parameters"] == theirs["parameters"] == pytest.approx(250_000, rel=0.1)
    large = PRESETS["gpu"]
    network = make_unet(
        channels=3, width=large.width, multipliers=large.multipliers, blocks=large.blocks,
        attention=large.attention, size=large.image_size, classes=10,
    )  # fmt: skip
    millions = sum(each.numel() for each in network.parameters()) / 1e6
    assert (
        f"The preset `gpu` (CIFAR-10, {millions:.0f} million parameters, three seeds) has not been run"
        in TEXT
    )
    assert len(large.image_seeds) == 3
    assert stored_at(chapter, "images_reflected", "gpu") is None


def test_half_an_hour(stored):
    assert "To fit into half an hour of one core" in TEXT
    names = {unit.experiment for unit in stored.units()}
    minutes = sum(run.provenance["cpu_seconds"] for name in names for run in stored[name]) / 60
    assert 20 < minutes < 30
    assert "networks on logits and on the simplex have one seed, and so have image networks" in TEXT
    single = {
        name for name in names if name.startswith(("toys", "simplex", "images")) and len(stored[name]) == 1
    }
    assert single == {"toys_logit", "simplex", "images_reflected", "images_exploding"}
