"""Every old public name still works, and warns with the new one."""

from importlib import import_module

import numpy as np
import pytest
import torch

from loupe.data.catalog import CATALOG, DataSet
from loupe.data.graph_tasks import node_inputs
from loupe.data.graphs import Graph
from loupe.data.images import Characters
from loupe.data.token_blocks import BlockBatches, Crops
from loupe.data.trajectories import Molecule
from loupe.diffusion import continuous, discrete, reflected
from loupe.dynamics import charged_windows, molecule_windows
from loupe.geometry import implicit_argmin_vjp
from loupe.geometry.networks import GraphEncoder, ManifoldLinear
from loupe.networks.transformer import Transformer
from loupe.plotting import SERIES
from loupe.training import Batches, Run, Training, cosine, fit, train

MOVED = (
    ("loupe.data.text", "normalise", "loupe.data.text", "normalize"),
    ("loupe.diffusion.discrete", "exponential_race", "loupe.diffusion.discrete", "exponential_sampling"),
    ("loupe.diffusion.reflected", "ExplodingSDE", "loupe.diffusion.reflected", "VESDE"),
    ("loupe.networks.perceptron", "NoisePerceptron", "loupe.networks.mlp", "NoiseMLP"),
    ("loupe.training", "staircase", "loupe.training", "step_decay"),
    ("loupe.training.schedules", "staircase", "loupe.training.schedules", "step_decay"),
)


@pytest.mark.parametrize(("module", "old", "home", "new"), MOVED)
def test_an_old_name_of_a_module_is_the_new_one(module, old, home, new):
    with pytest.warns(
        DeprecationWarning, match=rf"^{module}.{old} is now called .*{new}: please use the new"
    ):
        found = getattr(import_module(module), old)
    assert found is getattr(import_module(home), new)
    with pytest.raises(AttributeError, match="has no attribute 'unheard_of'"):
        _ = import_module(module).unheard_of


MASKS, NOISE, SHAPE = discrete.Absorbing(3), discrete.LogLinearNoise(), (2, 4)
DISTRIBUTION = torch.full((3, 3), 1 / 9, dtype=torch.float64)
TOKENS, FIRST, REST = (
    torch.tensor([[0, 1, 2]]),
    torch.tensor([True, False, False]),
    torch.tensor([False, True, True]),
)
POINTS = torch.tensor([[0.4, 0.7], [0.2, 0.1]], dtype=torch.float64)
VE, CUBE = continuous.VESDE(), reflected.ReflectedSDE()
EULER = {"method": "euler", "steps": 2}
ALL = np.arange(40)
GRAPH = Graph(
    "toy", 3, np.array([[0, 1], [1, 2]]), np.eye(3) + 1, None, np.zeros(3, int), None, None, None, ""
)
DRAWN = Characters(
    np.zeros((20, 28, 28), np.uint8), np.zeros(20, int), np.zeros(20, int), np.arange(1, 21), ()
)
PATH = np.random.default_rng(0).random((60, 2, 3)).astype(np.float32)
MOLECULE = Molecule("toy", PATH, PATH, np.array([6, 6]), np.zeros(60), 1.0)


OTHERS = {name: value for name, value in vars(CATALOG["mnist"]).items() if name != "license"}


def uniform(x, total):
    return torch.zeros(*x.shape, MASKS.states, dtype=torch.float64)


def pull(x, noise):
    return 0.1 * (0.5 - x)


def drawn(function, *given, **named):
    """The result of a function that draws numbers; what a callback sees is part of it."""
    seen = []
    named = {
        name: (lambda *args: seen.append(args[-1])) if value == "see" else value
        for name, value in named.items()
    }
    found = function(*given, generator=torch.Generator().manual_seed(0), **named)
    return getattr(found, "tokens", getattr(found, "nats", found)), seen


def trained(function, *given, **named):
    """Parameters and steps that a callback sees."""
    torch.manual_seed(0)
    net, seen = torch.nn.Linear(2, 1), []
    made = {"see": [lambda run: seen.append(run.step)], "sgd": torch.optim.SGD(net.parameters(), 0.1)}
    data = Batches(torch.ones(4, 2), size=2)
    named = {name: made.get(value, value) for name, value in named.items()}
    function(net, lambda net, batch, generator: net(batch[0]).square().mean(), data, *given, **named)
    return list(net.parameters()), seen


def weights(module):
    return [getattr(each, "p", getattr(each, "dropout", None)) for each in module.modules()]


# Calls with an argument missing, its old name, its new one, and a value.
ARGUMENTS = (
    (lambda **a: discrete.Enumeration(graph=MASKS, **a).marginal(1.0), "law", "distribution", DISTRIBUTION),
    (lambda **a: drawn(discrete.sample, uniform, MASKS, NOISE, SHAPE, steps=2, **a), "watch", "callback", "see"),
    (lambda **a: drawn(discrete.sample, uniform, MASKS, NOISE, SHAPE, steps=2, **a), "race", "exponential_dtype",
     torch.float16),
    (lambda **a: drawn(discrete.first_hitting, uniform, MASKS, SHAPE, **a), "watch", "callback", "see"),
    (lambda **a: drawn(discrete.any_order_nats, uniform, TOKENS, MASKS, **a), "asked", "requested", FIRST),
    (lambda **a: drawn(discrete.any_order_nats, uniform, TOKENS, MASKS, FIRST, **a), "hidden", "masked", REST),
    (lambda **a: drawn(reflected.sample, pull, CUBE, SHAPE, steps=2, **a), "watch", "callback", "see"),
    (lambda **a: drawn(reflected.log_likelihood, pull, CUBE, POINTS, **EULER, **a), "probes", "noise_vectors", 2),
    (lambda **a: drawn(continuous.log_likelihood, pull, VE.prior_log_density, POINTS, [0, 1], **EULER, **a), "probes",
     "noise_vectors", 2),
    (lambda **a: reflected.thresholded(pull, "dynamic", **a)(POINTS, POINTS[:, 0]), "share", "quantile", 0.3),
    (lambda **a: continuous.thresholded(pull, "dynamic", **a)(9 * POINTS, POINTS[:, 0]), "share", "quantile", 0.3),
    (lambda **a: continuous.threshold(9 * POINTS, "dynamic", **a), "share", "quantile", 0.3),
    (lambda **a: drawn(continuous.hybrid, pull, pull, VE.diffusion, POINTS, [1, 0.5], **a), "share", "fraction", 0.3),
    (lambda **a: continuous.VESDE(**a).prior_log_density(POINTS), "centre", "center", 0.5),
    (lambda **a: continuous.EDMSDE(**a).prior_log_density(POINTS), "centre", "center", 0.5),
    (lambda **a: reflected.VESDE(**a).limit_log_density(POINTS), "centre", "center", 0.1),
    (lambda **a: weights(Transformer(5, width=8, heads=2, blocks=1, **a)), "rate", "dropout", 0.25),
    (lambda **a: weights(ManifoldLinear(2, 3, **a)), "rate", "dropout", 0.25),
    (lambda **a: weights(GraphEncoder([2, 3], **a)), "rate", "dropout", 0.25),
    (lambda **a: trained(fit, steps=3, **a), "optimiser", "optimizer", "sgd"),
    (lambda **a: trained(fit, steps=3, optimizer="sgd", **a), "hooks", "callbacks", "see"),
    (lambda **a: trained(train, Training(steps=3), **a), "hooks", "callbacks", "see"),
    (lambda **a: Batches(ALL, size=4)(0, shards=2, **a), "part", "shard", 1),
    (lambda **a: Batches(ALL, size=4)(0, **a), "parts", "shards", 2),
    (lambda **a: Crops(ALL, length=4, size=4)(0, shards=2, **a), "part", "shard", 1),
    (lambda **a: BlockBatches(ALL.reshape(10, 4), size=4)(0, **a), "parts", "shards", 2),
    (lambda **a: cosine(10, **a)(2), "warm", "warmup", 5),
    (lambda **a: node_inputs(GRAPH, "node", GRAPH.edges, **a), "normalise", "normalize", True),
    (lambda **a: DRAWN.rows(**a), "part", "split", "valid"),
    (lambda **a: charged_windows(count=2, **a).targets, "part", "split", "valid"),
    (lambda **a: molecule_windows(MOLECULE, distance=4, slices=2, **a).targets, "part", "split", "test"),
    (lambda **a: implicit_argmin_vjp(lambda y, a: (y - a).square().sum(), params=[POINTS[0]], **a)(POINTS[1]),
     "minimiser", "minimizer", POINTS[0]),
    (lambda **a: DataSet(**OTHERS, **a).license, "licence", "license", "MIT"),
)  # fmt: skip


@pytest.mark.parametrize(("call", "old", "new", "value"), ARGUMENTS)
def test_an_old_argument_is_the_new_one(call, old, new, value):
    wanted = call(**{new: value})
    with pytest.warns(DeprecationWarning, match=rf"\({old}=\) is now called {new}: please use the new name$"):
        found = call(**{old: value})
    if isinstance(wanted, str):
        assert found == wanted
    else:
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    with (
        pytest.warns(DeprecationWarning, match="new name"),
        pytest.raises(TypeError, match=f"both {new}= and its old name {old}="),
    ):
        call(**{old: value, new: value})


ATTRIBUTES = (
    (discrete.Enumeration(DISTRIBUTION, MASKS), "law", "distribution"),
    (discrete.Enumeration(DISTRIBUTION, MASKS), "sampler_law", "sampler_distribution"),
    (VE, "centre", "center"),
    (reflected.VESDE(), "centre", "center"),
    (Run(None, "sgd", None, None), "optimiser", "optimizer"),
    (SERIES[0], "colour", "color"),
    (CATALOG["mnist"], "licence", "license"),
)


@pytest.mark.parametrize(("value", "old", "new"), ATTRIBUTES)
def test_an_old_attribute_is_the_new_one(value, old, new):
    with pytest.warns(DeprecationWarning, match=rf"{old} is now called {new}: please use the new name$"):
        found = getattr(value, old)
    wanted = getattr(value, new)
    assert found is wanted or found == wanted
