"""The glue of the chapter: how its networks are trained, sampled and judged, at any scale, and what settings refuse."""

from functools import partial

import numpy as np
import pytest
import torch

from loupe.data.images import Images
from loupe.diffusion.reflected import ReflectedSDE
from loupe.errors import LoupeError
from loupe.papers.judging import image_set
from loupe.papers.reflected_diffusion import PRESETS, config, experiments_images, experiments_toys
from loupe.papers.reflected_diffusion.claims import value

TINY = PRESETS["smoke"].override(
    {"training": {"steps": 4}, "toy_training": {"steps": 4}, "toy_width": 8, "toy_points": 60, "judge_epochs": 1,
     "judge_widths": [8], "samples": 20, "weights": [10.0, 0.0]}
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Both image experiments at their smallest."""
    work = tmp_path_factory.mktemp("work")
    return {
        name: getattr(experiments_images, name)(TINY, seed=0, device="cpu", work=work)
        for name in ("images_reflected", "images_exploding")
    }


def test_only_without_walls_is_anything_outside(images):
    outside = images["images_reflected"]["outside"]
    assert len(outside) == 2 + 5 + 3 * len(TINY.weights)  # with those of training images and of noise
    assert not outside.any()
    for name in ("flow", "none"):
        assert value(images["images_exploding"], name, "outside") > 0.1


def test_both_networks_are_judged_by_one_classifier(images):
    one, two = images.values()
    assert one["judge_digest"] == two["judge_digest"]
    assert one["parameters"] == two["parameters"]
    assert all(value(one, name, "distance") == value(two, name, "distance") for name in ("train", "noise"))


def test_a_row_is_what_was_drawn_by_its_sampler_at_its_weight(images):
    run = images["images_reflected"]
    guided = [(name, word) for name in ("mollified", "flow", "fold") for word in ("0", "10")]  # in order
    plain = [(name, "") for name in ("train", "noise", "fold", "clip", "short", "mollified", "flow")]
    assert list(zip(run["method"], run["variant"], strict=True)) == plain + guided
    assert np.isnan(run["distance"]).tolist() == [False] * len(plain) + [True] * len(guided)
    for name, word in guided:
        pictures = run[f"guided_{name}"][("0", "10").index(word)]
        # Ten images are all that this preset draws at a weight; they are stored as bytes, and 0.98 is between 249 and 250.
        assert (pictures >= 251).mean() <= value(run, name, "bright", word) <= (pictures >= 249).mean()
    assert (value(run, "fold", "calls"), value(run, "train", "calls")) == (TINY.sampler_steps, 0)


def test_every_sampler_and_weight_draws_other_images_and_bits_are_finite(images):
    for run in images.values():
        plain = [run[name].tobytes() for name in run["method"][run["variant"] == ""] if name in run]
        guided = [each.tobytes() for name, pair in run.items() if name.startswith("guided_") for each in pair]
        assert len({*plain, *guided}) == len(plain) + len(guided) >= 10
        assert np.isfinite(run["bits"]).sum() == TINY.likelihood_images


def test_the_same_seed_gives_the_same_images(images, tmp_path):
    again = experiments_images.images_reflected(TINY, seed=0, device="cpu", work=tmp_path)
    for name in ("fold", "clip", "flow", "guided_fold", "bits"):
        assert np.array_equal(again[name], images["images_reflected"][name]), name


def test_images_of_every_class_are_drawn_in_turn():
    settings = TINY.override({"sample_batch": 7, "samples": 23, "sampler_steps": 2})
    data = Images(torch.zeros(1, 1, 4, 4), None, None, None, tuple("0123456789"), "")
    sampler = partial(experiments_images.by_steps, ReflectedSDE())
    drawn = experiments_images.drawn(settings, data, sampler, lambda x, *_: torch.zeros_like(x), 0, "cpu")
    assert drawn.labels.tolist() == [k % 10 for k in range(23)]
    assert drawn.raw.shape == drawn.clean.shape == (23, 1, 4, 4)
    # Batches do not repeat each other.
    assert not torch.equal(drawn.raw[:7], drawn.raw[7:14])


def test_hidden_labels_reach_the_network(monkeypatch, tmp_path):
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x, sigma, labels=None):
            seen.extend(labels.tolist())
            return super().forward(x)

    monkeypatch.setattr(experiments_images, "make_unet", lambda **options: Spy(8, 8))
    settings = TINY.override({"training": {"steps": 40, "batch": 32}})
    experiments_images.trained(settings, image_set("digits", 8), ReflectedSDE(), 0, "cpu", tmp_path / "run")
    assert np.mean(np.array(seen) == 10) == pytest.approx(settings.label_drop, abs=0.05)
    assert set(seen) == set(range(11))


def test_the_likelihood_network_bounds_gray_levels(tmp_path):
    run = experiments_images.image_bound(TINY, seed=0, device="cpu", work=tmp_path)
    assert run["bits"].shape == (TINY.likelihood_images,)
    assert (run["bits"] > 0).all()


# ---- toys


def test_points_are_spread_as_their_distributions_say():
    squares, corners, triangle = (
        draw(80_000, torch.Generator().manual_seed(0))
        for draw in (experiments_toys.edge_squares, experiments_toys.corners, experiments_toys.dirichlets)
    )
    assert {points.dtype for points in (squares, corners, triangle)} == {torch.float32}
    row, column = (squares * 4).floor().clamp(max=3).long().T
    counts = torch.bincount(row * 4 + column, minlength=16).view(4, 4)
    dark = torch.arange(4)[:, None] % 2 == torch.arange(4) % 2
    assert (counts[~dark] == 0).all()
    assert ((counts[dark] - 10_000).abs() < 500).all()
    assert 0 <= corners.min() < 0.01 < 0.99 < corners.max() <= 1
    assert triangle.min() >= 0
    assert triangle.sum(1).max() <= 1 + 1e-6
    wanted = torch.tensor([(1 / 11 + 10 / 14) / 2, (2 / 11 + 2 / 14) / 2], dtype=torch.float64)
    assert (triangle.double().mean(0) - wanted).abs().max() < 0.01


@pytest.mark.parametrize("name", ["toys_reflected", "toys_exploding", "toys_logit", "simplex"])
def test_toys_are_compared_with_held_out_points(name):
    run = getattr(experiments_toys, name)(TINY, seed=0, device="cpu")
    assert np.isfinite(run["distance"]).sum() == len(run["method"]) > 2
    drawn = [run[name].tobytes() for name in {*run["method"]} & run.keys()]
    assert len(set(drawn)) == len(drawn)
    toys = [""] if name == "simplex" else experiments_toys.TOYS
    held_out = [draw(TINY.toy_points, torch.Generator().manual_seed(experiments_toys.FAR)) for draw in
                (experiments_toys.edge_squares, experiments_toys.corners)]  # fmt: skip
    for toy, points in zip(toys, held_out, strict=False):
        assert abs(value(run, "data", "distance", toy)) < 0.02
        if toy:
            at_walls = ((points < 0.01) | (points > 0.99)).any(1).double().mean()
            assert value(run, "data", "at_walls", toy) == float(at_walls)
            assert np.array_equal(run["data"][list(toys).index(toy)], points)


def test_the_bound_lies_above_the_true_bits():
    run = experiments_toys.grey_bound(TINY, seed=0, device="cpu")
    assert run["bound"].mean() > run["surprise"].mean()
    assert 5 < run["entropy"] < 8


# ---- settings


@pytest.mark.parametrize(
    ("values", "message"),
    [({"sigma_min": 6.0}, "short_sigma must lie between sigma_min and sigma_max"),
     ({"bound_sigma_min": 5.0}, "sigma_max must be above bound_sigma_min"),
     ({"image_size": 9}, "image_size must be a multiple of 2"), ({"images": "imagenet"}, "images"),
     ({"mollifier": 0}, "mollifier"), ({"tolerance": 0}, "tolerance")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(LoupeError, match=message):
        PRESETS["smoke"].override(values)


def test_the_learning_rate_falls_in_a_line_to_its_floor():
    falling = config.ScoreTraining(steps=100, warmup=10, floor=0.2)
    factor = falling.schedule_factor()
    assert [factor(step) for step in (0, 9, 50, 100)] == pytest.approx([0.1, 1 - 0.8 * 0.09, 0.6, 0.2])
    assert config.ScoreTraining(steps=100).schedule_factor()(99) == 1
