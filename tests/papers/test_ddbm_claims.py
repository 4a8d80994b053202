"""How the chapter's claims are judged: results computed at smoke, and hand-made ones, right and wrong."""

from functools import partial
from itertools import starmap

import numpy as np
import pytest
from fakes import FakeResult, FakeStored, computed

from loupe.experiment import claims as judging
from loupe.experiment.results import Runs
from loupe.papers import ddbm as room
from loupe.papers.ddbm import experiments as toys
from loupe.papers.ddbm.claims import CLAIMS, equal_calls

CLAIM = {claim.id: claim for claim in CLAIMS}
REPRODUCED, NOT = judging.REPRODUCED, judging.NOT_REPRODUCED
PARTLY, OPEN, NOT_TESTED = judging.PARTLY, judging.INCONCLUSIVE, judging.NOT_TESTED
ROWS = np.array(["the source itself", "nearest training pair", "mean of the ten nearest", "targets, blurred",
                 "mean of the two nearest"])  # fmt: skip
DISTANCES, ERRORS = np.array([21.0, 0.25, 1.07, 3.5, 1.02]), np.array([0.14, 0.11, 0.07, 0.07, 0.105])


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The experiments without networks, at smoke."""
    config = room.PRESETS["smoke"]
    found = computed(room, config, ("identities", "toys"), tmp_path_factory)
    for runs in found.values():
        runs.first.settings = config.model_dump()
    return found


@pytest.mark.parametrize("name", ["B1", "B2", "B3", "B4", "B6"])
def test_exact_claims_hold_and_their_controls_fail(name, exact):
    found = judging.judge(CLAIM[name], "smoke", exact)
    assert found.verdict == REPRODUCED
    controls = [measure for measure in found.measures if measure.control]
    assert controls or name == "B4"
    assert all(measure.control.value not in measure.accepts for measure in controls)


def test_a_velocity_that_does_not_approach_the_line_fails(exact):
    run = FakeResult(0, {**exact["identities"].first, "flow deviations": np.array([1.0, 0.5, 0.3, 0.2])})
    assert judging.judge(CLAIM["B4"], "smoke", {"identities": Runs((run,))}).verdict == NOT


PROBLEMS = [f"{bridge} {pair}" for bridge in ("VP", "VE") for pair in ("normal", "two modes")]


@pytest.mark.parametrize(
    ("errors", "affine", "verdict"),
    [
        ({}, 1.0, REPRODUCED),
        ({"VP normal": 0.2}, 1.0, NOT),
        ({"VE two modes shuffled": 0.01}, 1.0, OPEN),  # a control that passes
        ({"VE two modes": 0.04}, 0.1, NOT),  # the best affine network does nearly as well
        ({"VE normal": 0.04}, 0.1, NOT),  # and so it does for the other pair of modes, of 0.02
        ({"VP normal": 0.04, "VP two modes": 0.001, "VE two modes": 0.001}, 0.1, REPRODUCED),
    ],
)  # fmt: skip
def test_learned_denoisers_are_judged_by_their_error_over_a_reference(errors, affine, verdict):
    networks = {f"{name} error": errors.get(name, 0.02) for name in PROBLEMS}
    networks |= {f"{name} shuffled error": errors.get(f"{name} shuffled", 2.0) for name in PROBLEMS}
    found = {"toy_networks": {}, "affine_networks": {}}
    for seed in range(5):
        wobble = 1 + seed / 100
        found["toy_networks"][seed] = {name: value * wobble for name, value in networks.items()}
        found["affine_networks"][seed] = {f"{name} error": affine * wobble for name in PROBLEMS}
    runs = {name: Runs(tuple(starmap(FakeResult, each.items()))) for name, each in found.items()}
    assert judging.judge(CLAIM["B5"], "cpu", runs).verdict == verdict


def test_the_best_affine_network_is_better_than_zero_and_than_any_other_affine_one():
    problems = list(toys._problems(room.PRESETS["smoke"], 0, "cpu"))
    best = room.affine_networks(room.PRESETS["smoke"], seed=0, device="cpu")
    for key, form, _, *points in problems:
        zero = toys._error(toys._zero, form, *points)
        for weights in ((0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, -0.1)):
            tried = partial(lambda x, x_T, log_time, w: w[0] + w[1] * x + w[2] * x_T, w=weights)
            assert best[f"{key} error"] < toys._error(tried, form, *points) / zero
        assert 0 < best[f"{key} error"] < 1
    # The exact denoiser of normal pairs is affine at each time, so that an affine network comes close; of two modes not.
    assert best["VP normal error"] < 0.1 < 0.9 < best["VP two modes error"]


# --- images -------------------------------------------------------------------------------------------------


def images(bridge=0.51, wobbles=(0.99, 1.0, 1.02), **changes):
    """Results of all image experiments with three seeds; ``vp=(hybrid, ODE)`` and so on are distances, times wobbles."""
    names = {"vp": ("hybrid", "ODE"), "ve": ("hybrid", "ODE"), "simple": ("hybrid", "ODE"), "shuffled": ("hybrid", "ODE"),
             "regression": ("regression",), "rectified_flow": ("rectified flow",), "i2sb": ("I2SB",)}  # fmt: skip
    distances = {"vp": (0.3, 0.5), "ve": (0.6, 0.7), "simple": (0.5, 0.6), "shuffled": (0.4, 0.5), "regression": (0.9,),
                 "rectified_flow": (0.8,), "i2sb": (0.7,)} | {k: v for k, v in changes.items() if k != "mse"}  # fmt: skip
    errors = {"vp": 0.04, "simple": 0.05, "shuffled": 0.2, "regression": 0.06} | changes.get("mse", {})
    found = {}
    for name, samplers in names.items():
        runs = []
        for seed, wobble in enumerate(wobbles):
            runs.append(FakeResult(seed, {
                "samplers": np.array(samplers), "distance": wobble * np.array(distances[name]),
                "mse": wobble * np.full(len(samplers), errors.get(name, 0.1)),
                "hybrid steps calls": np.array([29, 80, 119]), "ODE steps calls": np.array([19, 53, 79]),
                "hybrid steps distance": wobble * np.array([0.6, 0.4, 0.3]),
                "ODE steps distance": wobble * np.array([0.7, 0.6, 0.5]),
                "guidance distance": wobble**seed * np.array([0.9, 0.3] if name == "vp" else [0.6, 0.5]),
            }))  # fmt: skip
            runs[-1].settings = {"guidances": [0.0, 1.0]}
        found[name] = Runs(tuple(runs))
    trivial = FakeResult(0, {"rows": ROWS, "distance": DISTANCES, "mse": ERRORS})
    unconditional = [
        FakeResult(
            seed,
            {
                "EDM distance": np.array([0.5 * w]),
                "bridge distance": np.array([bridge * w]),
            },
        )
        for seed, w in enumerate((0.99, 1.0, 1.01))
    ]
    return found | {"trivial": Runs((trivial,)), "unconditional": Runs(tuple(unconditional))}


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("B7", {}, REPRODUCED),
        ("B7", {"vp": (0.5, 0.3)}, NOT),
        ("B7", {"vp": (0.485, 0.5)}, NOT),  # nearer than five percent
        ("B7", {"mse": {"vp": 0.2}}, NOT_TESTED),  # the nearest training pair is better
        ("B8", {}, REPRODUCED),
        ("B8", {"simple": (0.2, 0.3)}, NOT),
        ("B8", {"mse": {"simple": 0.03}}, PARTLY),
        ("B8", {"mse": {"shuffled": 0.01}}, OPEN),  # a control that passes
        ("B9", {}, REPRODUCED),
        ("B9", {"i2sb": (0.2,)}, NOT),
        ("B9", {"i2sb": (0.31,)}, NOT),  # nearer than five percent
        ("B9", {"i2sb": (0.4,)}, REPRODUCED),
        ("B9", {"i2sb": (0.4,), "wobbles": (0.85, 1.0, 1.2)}, NOT),  # nearer than two seeds of one method
        ("B9", {"wobbles": (0.85, 1.0, 1.2)}, REPRODUCED),
        ("B10", {}, REPRODUCED),
        ("B11", {}, REPRODUCED),
        ("B11", {"bridge": 0.8}, NOT),
    ],
)  # fmt: skip
def test_images_are_judged(name, changes, verdict):
    assert judging.judge(CLAIM[name], "gpu", images(**changes)).verdict == verdict


@pytest.mark.parametrize("name", ["B7", "B8", "B9", "B10"])
@pytest.mark.parametrize(
    ("distance", "error", "beaten_by"),
    [
        *zip(DISTANCES[:3], ERRORS[:3], ROWS[:3], strict=True),  # trivial rows in place of DDBM
        (0.14, 0.31, "nearest training pair"),  # real images that ignore the source
        (0.3, 0.11, "nearest training pair"),  # level in squared error
        (1.05, 0.107, "mean of the two nearest"),
        (1.07, 0.03, "mean of the ten nearest"),  # level in distance
        (25.0, 0.15, "the source itself"),  # worse than everything
        (0.3, np.nan, "nearest training pair"),
        (0.3, 0.1, None),  # a larger distance than the nearest pair's, and a smaller error
        (1.0, 0.1, None),
    ],
)  # fmt: skip
def test_methods_are_compared_once_no_trivial_row_is_as_good(name, distance, error, beaten_by):
    found = images(vp=(distance, 0.5), mse={"vp": error}, wobbles=(1.0, 1.0, 1.0))
    judged = judging.judge(CLAIM[name], "gpu", found)
    assert (judged.verdict == NOT_TESTED) == bool(beaten_by)
    assert f"beats {beaten_by}, which has" in judged.reason or not beaten_by


def test_equal_calls_are_those_within_five_percent():
    run = images()["vp"].first
    assert equal_calls(run) == pytest.approx((0.4 * 0.99, 0.5 * 0.99))
    assert equal_calls(run | {"ODE steps calls": np.array([10, 20, 30])}) == pytest.approx(
        (0.6 * 0.99, 0.5 * 0.99)
    )
    assert equal_calls(run | {"ODE steps calls": np.array([10, 20, 40])}) is None


def test_what_is_not_computed_is_not_tested():
    assert judging.judge(CLAIM["B7"], "gpu", FakeStored.of({}, "gpu")).verdict == NOT_TESTED
