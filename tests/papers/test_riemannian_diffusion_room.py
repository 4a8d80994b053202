"""The chapter: results of experiments at smoke, verdicts of right and wrong results, figures, and the readers' recipe."""

import math
import re

import numpy as np
import pytest
import torch
from fakes import FakeResult
from showing import assert_absent, assert_same_thumbnail_each_time, assert_shown, figures_of

from loupe import open_chapter
from loupe.data import load
from loupe.diffusion.riemannian import HeatKernel, heat_mixture
from loupe.experiment import claims as judging
from loupe.experiment.results import Runs, columns, find
from loupe.geometry import Sphere, Torus
from loupe.papers import riemannian_diffusion as room
from loupe.papers.riemannian_diffusion import experiments, figures, scores
from loupe.papers.riemannian_diffusion import experiments_networks as networks
from loupe.papers.riemannian_diffusion.config import Network
from loupe.publishing.notebooks import notebook_file, read_notebook

CLAIM = {claim.id: claim for claim in room.CLAIMS}
EXACT = ("SRD-1", "SRD-2", "SRD-3", "SRD-4", "SRD-8", "SRD-11")
REPRODUCED, NOT = judging.REPRODUCED, judging.NOT_REPRODUCED
OPEN, NOT_TESTED = judging.INCONCLUSIVE, judging.NOT_TESTED
SMALL = Network(width=8, layers=1, waves=2)


@pytest.fixture(scope="module")
def chapter():
    """The chapter at smoke, computed here."""
    found = open_chapter("riemannian_diffusion", preset="smoke", recompute=True)
    for name in room.PRIORITY:
        for one in (name,) if isinstance(name, str) else name:
            if found.stored.units(one):
                found.run(getattr(room, one))
    return found


@pytest.mark.parametrize("name", EXACT)
def test_exact_claims_hold_and_their_controls_fail(name, chapter):
    found = judging.judge(CLAIM[name], "smoke", chapter.stored)
    assert found.verdict == REPRODUCED
    controls = [measure for measure in found.measures if measure.control]
    assert controls
    assert all(measure.control.value not in measure.accepts for measure in controls)


@pytest.mark.parametrize(
    ("name", "experiment", "key", "value"),
    [
        ("SRD-1", "identities", "expansion errors", np.full(4, 1e-6)),
        ("SRD-2", "identities", "semigroup errors", np.full(2, 1e-3)),
        ("SRD-3", "estimators", "SU(3) errors", np.full((3, 3), 0.2)),
        ("SRD-3", "estimators", "S² errors", np.array([[1e-9, 1.0, 0.01], [1e-9, 1.0, 0.02]])),
        ("SRD-4", "samplers", "p", np.full(32, 1e-5)),
        ("SRD-8", "identities", "flow errors", np.full(3, 1e-2)),
        ("SRD-11", "identities", "diffusion slopes", 8.0 / 2.0 ** -np.arange(3, 12)),
    ],
)
def test_wrong_results_are_not_reproduced(name, experiment, key, value, chapter):
    run = chapter.stored[experiment].first
    wrong = FakeResult(0, {**run, key: value})
    wrong.settings = run.settings
    assert judging.judge(CLAIM[name], "smoke", {experiment: Runs((wrong,))}).verdict == NOT


def events(**means):
    """Results of the comparison on the globe: means over sets by experiment, the same in all seeds but for noise."""
    noise = np.random.default_rng(0).normal(size=(3, 2)) * 1e-3
    found = {}
    for name, mean in means.items():
        runs = [
            FakeResult(seed, {"sets": ["flood", "quakes"], "nll": mean + noise[seed]}) for seed in range(3)
        ]
        found[name] = Runs(tuple(runs))
    rows = [
        {"rows": label, "sets": each, "nll": value}
        for label, value in (("uniform", 2.53), ("heat kernels", 0.4))
        for each in ("flood", "quakes")
    ]
    return found | {"trivial": Runs(tuple(FakeResult(seed, columns(rows)) for seed in range(3)))}


@pytest.mark.parametrize(
    ("combined", "varadhan", "sliced", "verdict"),
    [
        (0.1, 0.3, 0.5, REPRODUCED),
        (0.1, 0.05, 0.5, NOT),
        (0.1, 0.3, 0.05, judging.PARTLY),
        (0.6, 0.7, 0.8, NOT_TESTED),
    ],
)
def test_estimators_are_compared_once_they_beat_kernels(combined, varadhan, sliced, verdict):
    found = events(combined=combined, varadhan=varadhan, series=0.9, sliced_matching=sliced)
    assert judging.judge(CLAIM["SRD-5"], "cpu", found).verdict == verdict


@pytest.mark.parametrize(
    ("denoising", "sliced", "verdict"), [(0.1, 0.9, REPRODUCED), (0.1, 0.2, NOT), (0.8, 0.9, NOT_TESTED)]
)
def test_spheres_are_judged_by_the_largest_dimension(denoising, sliced, verdict):
    def of(seed):
        rows = []
        for dimension in (3, 15, 63):
            for name, error in (("denoising", denoising), ("sliced", sliced if dimension == 63 else 0.2)):
                times = np.array([1.0, 2.0]) * (1 if name == "denoising" else 2.5)
                errors = error * np.array([1.2, 1.0]) * (1 + 1e-3 * seed)
                rows.append({"dimensions": dimension, "methods": name, "errors": errors, "seconds": times})
        run = FakeResult(seed, columns(rows))
        run.settings = {"dimensions": [3, 15, 63]}
        return run

    assert (
        judging.judge(CLAIM["SRD-7"], "cpu", {"spheres": Runs(tuple(map(of, range(3))))}).verdict == verdict
    )


def test_splits_are_disjoint_and_repeats_are_found():
    train, valid, test, repeated = networks.split("quakes", 0, 10_000)
    assert len(train) + len(valid) + len(test) == len(load("earth")["quakes"].xyz)
    assert 0.05 < repeated.mean() < 0.3
    nearest = (test.double() @ train.double().T).amax(1)
    assert (nearest[torch.from_numpy(repeated)] > 1 - 1e-6).all()


def test_trivial_rows_are_densities():
    """A log density at uniform points: the mean of its exponential is one over the area."""
    train, valid, _, _ = networks.split("volc", 0, 60)
    uniform = Sphere().random(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixture = heat_mixture(networks.GLOBE, train.double(), sigmas=0.2)
    assert float(mixture.log_density(uniform[:4000]).exp().mean() * 4 * math.pi) == pytest.approx(1, abs=0.1)
    found, share = networks._mixture(train.double(), valid.double(), uniform[:64])
    assert found.shape == (64,)
    assert 0 <= share <= 1


@pytest.mark.parametrize("loss", [scores.denoising, scores.sliced])
def test_both_losses_have_their_least_value_at_the_score(loss):
    """Of the exact score, half of it, and twice of it."""
    kernel = HeatKernel(Sphere(2))
    data = (
        Sphere(2)
        .random(2048, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[:1]
        .expand(4096, 3)
    )
    settings = SMALL.model_copy(update={"sigma_min": 0.3, "sigma_max": 2.0})
    values = [
        loss(kernel, settings)(
            lambda x, sigma, factor=factor: factor * kernel.score(x, data[:1].expand_as(x), sigma), (data,),
            torch.Generator().manual_seed(1),
        ).item()
        for factor in (0.5, 1.0, 2.0)
    ]  # fmt: skip
    assert values[1] < min(values[0], values[2])


def test_networks_see_angles_without_a_seam():
    network = scores.ScoreMLP(torch.zeros(2), SMALL, angles=True)
    torch.nn.init.normal_(network.mlp.head.weight)
    x, sigma = torch.tensor([[1e-4, 1.0]]), torch.tensor([0.5])
    assert torch.allclose(network(x, sigma), network(x + 2 * math.pi, sigma), atol=1e-3)
    assert not torch.allclose(network(x, sigma), network(x, 2 * sigma))


def test_a_released_variance_is_noticed():
    """The walk with the whole variance passes the test that the released one fails."""
    space, generator = experiments.SPACES["SO(3)"], torch.Generator().manual_seed(0)
    identity = space.origin_like(experiments.points_of(space, 3000, generator))
    p = [
        experiments._moments(
            "SO(3)", space, experiments._walk(space, identity, 0.3 * share, generator), identity, 0.3
        )["p"]
        for share in (1.0, 0.5**0.5)
    ]
    assert p[0] > 1e-3
    assert p[1] < 1e-6


@pytest.mark.parametrize("draw", figures_of(figures))
def test_every_figure(draw, chapter, rendered):
    missing = hasattr(draw, "names") and find(chapter, draw.names, draw.presets, draw.partial) is None
    assert missing == (draw.__name__ == "all_sets")
    (assert_absent if missing else assert_shown)(draw, chapter, rendered)


def test_thumbnail(chapter, tmp_path):
    assert_same_thumbnail_each_time(figures.thumbnail, chapter, tmp_path)


def test_the_recipe_runs():
    """The readers' recipe, with few steps."""
    cells = [cell.source for cell in read_notebook(notebook_file("riemannian_diffusion")).cells]
    (recipe,) = re.findall(r"```python\n(.*?)```", "\n".join(cells), re.S)
    recipe = recipe.replace("steps=3000", "steps=3").replace("batch=512", "batch=16")
    assert len(recipe.strip().splitlines()) <= 22
    place = np.random.default_rng(0).uniform(-60, 60, (2, 50))
    space = {"latitude": place[0], "longitude": place[1]}
    exec(recipe, space)
    assert space["new"].shape == (100, 3)
    assert torch.allclose(space["new"].norm(dim=-1), torch.ones(100), atol=1e-4)
    assert Torus(2).dimension_like(torch.zeros(2)) == 2
