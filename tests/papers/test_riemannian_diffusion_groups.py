"""Densities on SU(3) and outliers: the Monte Carlo reference, symmetries, claims and figures."""

import math

import numpy as np
import pytest
import torch
from fakes import FakeResult, computed
from matplotlib.text import Text
from showing import cells_of, figures_of

from loupe.experiment.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, judge
from loupe.experiment.results import Found, Runs, columns
from loupe.geometry.matrices import adjoint, product
from loupe.papers import riemannian_diffusion as room
from loupe.papers.drawing import Picture
from loupe.papers.riemannian_diffusion import experiments_groups as groups
from loupe.papers.riemannian_diffusion import figures_groups
from loupe.papers.riemannian_diffusion.claims_groups import CLAIMS
from loupe.papers.riemannian_diffusion.config import Network

CLAIM = {claim.id: claim for claim in CLAIMS}
ACTIONS = {
    "site": (groups.site_action, groups.site_log_partition, 1),
    "lattice": (groups.plaquettes, groups.lattice_log_partition, 4),
}
BETA = 5.0


def haar(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return groups.GROUP.random(*shape, 3, 3, generator=generator, dtype=torch.complex128)


def around_columns(x, seed=1):
    """U_x -> g(x_1) U_x g(x_1 + 1)^† on the lattice of 2 by 2."""
    g = haar(len(x), 2, 1, seed=seed)
    return product(g, x.unflatten(1, (2, 2)), adjoint(g.roll(-1, 1))).flatten(1, 2)


@pytest.mark.parametrize("name", ACTIONS)
def test_monte_carlo_has_the_exact_moments(name):
    action, log_partition, sites = ACTIONS[name]
    exact, generator = groups.exact(log_partition, BETA), torch.Generator().manual_seed(3)
    x, accepted = groups.hmc(
        lambda x: BETA * action(x), groups.GROUP, haar(384, sites), sweeps=40, generator=generator
    )
    values = torch.stack([action(one) for one in x])
    assert 0.6 < accepted < 0.95
    assert 1 <= groups.autocorrelation_time(values) < 10
    for power, wanted in ((1, exact["mean"]), (2, exact["variance"])):
        each = (values - (power - 1) * exact["mean"]).pow(power).mean(0)
        assert abs(float(each.mean()) - wanted) < 4 * float(each.std()) / len(each) ** 0.5


@pytest.mark.parametrize("name", ACTIONS)
def test_the_slope_of_an_action_is_that_of_differences(name):
    action, _, sites = ACTIONS[name]
    x, group = haar(3, sites).requires_grad_(), groups.GROUP
    (slope,) = torch.autograd.grad(action(x).sum(), x)
    x, a = x.detach(), torch.randn(3, sites, 8, dtype=torch.float64)
    step = group.from_frame(x, 1e-5 * a)
    differences = (action(group.exp(x, step)) - action(group.exp(x, -step))) / 2e-5
    assert torch.allclose((group.coordinates(x, slope) * a).sum((1, 2)), differences, atol=1e-7)


def test_symmetries_of_densities_and_of_the_network():
    generator, x = torch.Generator().manual_seed(0), haar(5, 4)
    for action, _, sites in ACTIONS.values():
        turned = groups.conjugated(x[:, :sites], generator)
        assert torch.allclose(action(turned), action(x[:, :sites]))
        assert (turned - x[:, :sites]).abs().max() > 0.1
    turned = around_columns(x)
    assert torch.allclose(groups.plaquettes(turned), groups.plaquettes(x))
    network = groups.LoopScore(x[0], Network(width=8, layers=1)).double()
    torch.nn.init.normal_(network.mlp.head.weight)
    # A score is a vector: it turns with the point.
    ours, theirs = network(turned, torch.ones(5)), around_columns(network(x, torch.ones(5)))
    assert torch.allclose(*(groups.GROUP.to_tangent(turned, one) for one in (ours, theirs)), atol=1e-12)
    assert ours.abs().max() > 1e-3


def test_plaquettes_are_products_of_four_matrices():
    x = haar(2, 9).unflatten(1, (3, 3))
    total = 0
    for i in range(3):
        for j in range(3):
            right, up, both = x[:, (i + 1) % 3, j], x[:, i, (j + 1) % 3], x[:, (i + 1) % 3, (j + 1) % 3]
            total = total + groups.trace(x[:, i, j] @ right @ both.mH @ up.mH).real / 3
    assert torch.allclose(groups.plaquettes(x.flatten(1, 2)), total)


def test_weights_of_the_exact_density_are_even():
    values, log = groups.site_action(haar(50, 1)), 2.5
    row = groups.weighed("exact", values, BETA, BETA * values - log)
    assert row["ESS"] == pytest.approx(1)
    assert row["log Z"] == pytest.approx(log)
    assert groups.weighed("uniform", values, BETA, 0 * values)["ESS"] < 0.5
    assert math.isnan(groups.weighed("HMC", values, BETA)["ESS"])


def test_integrals_over_the_torus():
    x, log_weight = groups.torus()
    z, weight = groups.trace(x[:, 0]), log_weight.exp()
    assert float(weight.sum()) == pytest.approx(1)
    assert float((weight * z.abs().square()).sum()) == pytest.approx(1)
    assert float(groups.lattice_log_partition(torch.tensor(0.0))) == pytest.approx(0, abs=1e-9)


def test_images_of_random_phases_keep_their_amplitudes():
    images = 0.5 + 0.01 * torch.randn(4, 1, 8, 8)
    found = groups.phase_randomized(images, torch.Generator().manual_seed(0))
    ours, theirs = (torch.fft.rfft2(x).abs() for x in (found, images))
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert (found - images).abs().max() > 0.01


def lattices(ess, plaquette, off):
    """Made-up results of three seeds."""
    rows = {
        "exact": (1.0, 3.2, 19.5),
        "HMC": (math.nan, 3.2, math.nan),
        "Haar": (0.01, 0.0, 12.0),
        "MLP": (0.02, 0.1, 12.0),
    }
    found = []
    for seed in range(3):
        rows["loops"] = (ess + seed / 100, 3.2 * plaquette, 19.5 + off)
        table = columns({"row": k, "ESS": e, "mean": m, "log Z": z} for k, (e, m, z) in rows.items())
        site = columns({"row": k, "ESS": e} for k, e in (("Haar", 0.04), ("MLP", ess + 0.4 + seed / 100)))
        found.append((FakeResult(seed, table), FakeResult(seed, site)))
    return {
        name: Runs(runs) for name, runs in zip(("lattice", "site"), zip(*found, strict=True), strict=True)
    }


@pytest.mark.parametrize(
    ("found", "verdict"),
    [((0.5, 1.001, 0.01), REPRODUCED), ((0.1, 1.001, 0.01), NOT_REPRODUCED), ((0.5, 0.9, 0.0), NOT_REPRODUCED),
     ((0.5, 1.0, -0.7), NOT_REPRODUCED)],
)  # fmt: skip
def test_diffusion_on_the_lattice_is_judged(found, verdict):
    judged = judge(CLAIM["SRD-10"], "gpu", lattices(*found))
    assert judged.verdict == verdict
    assert all(measure.control.value not in measure.accepts for measure in judged.measures)


@pytest.mark.parametrize(
    ("ours", "chance", "verdict"),
    [(0.95, 0.9, REPRODUCED), (0.8, 0.9, NOT_REPRODUCED), (0.5, 0.5, INCONCLUSIVE)],
)
def test_detection_is_judged(ours, chance, verdict):
    methods = {"likelihood": ours, "k-th neighbor": chance, "class mean": chance - 0.02}
    runs = []
    for seed in range(3):
        rows = [
            {"method": m, "AUROC": a + seed / 1e4 * (m == "likelihood")}
            for m, a in methods.items()
            for _ in range(5)
        ]
        runs.append(FakeResult(seed, columns(rows) | {"accuracy": 0.9, "accuracy of pixels": 0.5}))
    judged = judge(CLAIM["SRD-9"], "gpu", {"outliers": Runs(tuple(runs))})
    assert judged.verdict == verdict


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return computed(room, room.PRESETS["smoke"], ("site", "lattice", "outliers"), tmp_path_factory)


@pytest.mark.parametrize("draw", figures_of(figures_groups))
def test_every_figure(draw, smoke):
    runs = {name: smoke[name] for name in draw.names}
    made = draw.__wrapped__(Found(runs if len(runs) > 1 else next(iter(runs.values())), "smoke"))
    if isinstance(made, Picture):
        assert len(made.caption.split()) > 5
        assert all(text.get_fontsize() >= 9.8 for text in made.sheet.findobj(Text) if text.get_text())
    else:
        head, rows = cells_of(made)
        assert head[0] == "smoke, 1 seed"
        assert rows


def test_claims_of_one_seed_decide_nothing(smoke):
    assert np.isfinite(smoke["site"].first["MLP KL + log Z"])
    assert {judge(one, "gpu", smoke).verdict for one in CLAIMS} <= {INCONCLUSIVE, "not tested here"}
