"""Derivatives of every order, or an error: each function of the package that brings a derivative of its own."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian, hvp, vhp

import loupe
from loupe.diffusion.discrete import Absorbing, Uniform
from loupe.diffusion.reflected import KernelMixture, classifier_guided
from loupe.geometry import (
    SPD,
    Euclidean,
    Hyperboloid,
    PoincareBall,
    SpecialUnitary,
    Sphere,
    frechet_mean,
    graph_frechet_mean,
)
from loupe.networks.egnn import EGNNLayer, Graph

DOUBLE = torch.float64

# Forward mode loads decompositions that torch itself compiles in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def normal(*shape, seed=0):
    # Not torch's: vmap wants to know about its random numbers.
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def mean_on(kind):
    """A Fréchet mean by curvature, coordinates and weights."""

    def value(p):
        K, x, w = -p[0].exp(), p[1:16].view(5, 3), p[16:21].exp()
        if kind is PoincareBall:
            return frechet_mean(x / (2 * (-K).sqrt()), w, PoincareBall(K))[:3] @ normal(3)
        if kind is Hyperboloid:
            sheet = Hyperboloid(K)
            return frechet_mean(sheet.project(torch.cat([p[:1].expand(5, 1), x], 1)), w, sheet) @ normal(4)
        space = kind()
        return frechet_mean(space.project(x + torch.tensor([3.0, 0, 0], dtype=DOUBLE)), w, space) @ normal(3)

    coordinates = 0.5 * normal(15, seed=1).clamp(-1, 1)
    return value, torch.cat([normal(1, seed=2), coordinates, 0.3 * normal(5, seed=3)])


def mean_of_neighbours(p):
    edges = torch.tensor([[0, 1, 2, 3, 4, 2, 3], [0, 0, 0, 2, 2, 1, 3]])
    means = graph_frechet_mean(p[:15].view(5, 3), edges, p[15:].exp(), PoincareBall())
    return (means * normal(5, 3)).sum()


def messages(edges, output):
    layer, known = EGNNLayer(2, 1).double(), normal(edges.shape[1], 1)
    for k, parameter in enumerate(layer.parameters()):
        parameter.data = 0.7 * normal(*parameter.shape, seed=k)
        parameter.requires_grad_(False)

    def value(p):
        x, h = p[:12].view(4, 3), p[12:].view(4, 2)
        x, h = layer(x, normal(4, 3, seed=5), h, Graph(edges, 4), known)
        return {"both": x.square().sum() + h.cos().sum(), "x": (x * x).sum(), "h": (h**3).sum()}[output]

    return value, normal(20, seed=7)


def entropy(graph):
    x0 = torch.tensor([[0, 1, 2], [2, 2, 1]])
    x = torch.tensor([[graph.states - 1, 1, 0], [2, graph.states - 1, 1]])

    def value(p):
        noise = p[:2].exp()
        return (graph.score_entropy(p[2:].view(2, 3, -1), noise, x, x0) * normal(2, 3)).sum()

    return value, normal(2 + 6 * graph.states, seed=4)


def logarithm(p):
    """Of a positive definite matrix near the identity, where eigenvalues nearly coincide."""
    half = torch.eye(3, dtype=DOUBLE) + 0.3 * p.view(3, 3)
    return (SPD("log_euclidean").log(torch.eye(3, dtype=DOUBLE), half @ half.T) * normal(3, 3)).sum()


def unitary_logarithm(p):
    """At a special unitary matrix, of another one."""
    group, eye = SpecialUnitary(2), torch.eye(2, dtype=torch.complex128)
    x = torch.tensor([[0.6, 0.8j], [0.8j, 0.6]], dtype=torch.complex128)
    m = torch.view_as_complex(p.view(2, 2, 2))
    u = (m - m.mH) / 2
    y = group.exp(eye, 0.3 * (u - eye * u.diagonal().sum() / 2))
    return (torch.view_as_real(group.log(x, y)) * normal(2, 2, 2)).sum()


def mixture_score(p):
    mixture = KernelMixture(torch.tensor([[0.2, 0.7], [0.6, 0.1]], dtype=DOUBLE), torch.ones(2, dtype=DOUBLE))
    return (mixture.score(p.view(3, 2).sigmoid(), torch.full((3,), 0.3, dtype=DOUBLE)) ** 2).sum()


def guided(p):
    maps, labels = p[:6].view(2, 3), torch.tensor([0, 2, 1])
    score = classifier_guided(
        lambda x, sigma: -(x**3), lambda x, sigma: (x.sin() @ maps).log_softmax(1), labels, 0.7
    )
    return (score(p[6:].view(3, 2), torch.ones(3, dtype=DOUBLE)) ** 2).sum()


RING, COMPLETE = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), Graph.complete(2, 2).edges
CASES = {
    **{f"mean on {k.__name__}": mean_on(k) for k in (PoincareBall, Hyperboloid, Sphere, Euclidean)},
    "mean of neighbours": (mean_of_neighbours, 0.4 * normal(22, seed=1).clamp(-1, 1)),
    **{f"messages, {out}": messages(RING, out) for out in ("both", "x", "h")},
    "messages, complete": messages(COMPLETE, "both"),
    "absorbing": entropy(Absorbing(3)),
    "uniform": entropy(Uniform(3)),
    "logarithm": (logarithm, normal(9, seed=6)),
    "unitary logarithm": (unitary_logarithm, normal(8, seed=6)),
    "score of a mixture": (mixture_score, normal(6, seed=3)),
    "guided score": (guided, normal(12, seed=3)),
}
WAYS = {
    "functional.hessian": hessian,
    "functional.hvp": lambda f, p: torch.stack([hvp(f, p, e)[1] for e in torch.eye(len(p), dtype=DOUBLE)]),
    "functional.vhp": lambda f, p: torch.stack([vhp(f, p, e)[1] for e in torch.eye(len(p), dtype=DOUBLE)]),
    "func.hessian": lambda f, p: torch.func.hessian(f)(p),
    "jacrev(jacrev)": lambda f, p: torch.func.jacrev(torch.func.jacrev(f))(p),
    "jacfwd(jacfwd)": lambda f, p: torch.func.jacfwd(torch.func.jacfwd(f))(p),
    "jacrev(grad)": lambda f, p: torch.func.jacrev(torch.func.grad(f))(p),
}


def gradient(f, p):
    p = p.clone().requires_grad_()
    return torch.autograd.grad(f(p), p)[0]


def differences(f, p, step):
    """Central, by each coordinate; of fourth order."""
    rows = []
    for e in step * torch.eye(len(p), dtype=DOUBLE):
        rows.append((8 * (f(p + e) - f(p - e)) - f(p + 2 * e) + f(p - 2 * e)) / (12 * step))
    return torch.stack(rows)


@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_against_differences(name):
    f, p = CASES[name]
    first = gradient(f, p)
    torch.testing.assert_close(first, differences(f, p, 1e-3), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(torch.func.grad(f)(p), first, rtol=1e-10, atol=1e-12)
    wanted = differences(lambda p: gradient(f, p), p, 1e-3)
    assert wanted.abs().max() > 1e-3
    for way in WAYS:
        found = WAYS[way](f, p)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7, msg=lambda text: f"{way}: {text}")  # noqa: B023


@pytest.mark.parametrize("name", CASES)
def test_third_derivatives_and_inputs_by_themselves(name):
    f, p = CASES[name]
    v = normal(len(p), seed=9)
    wanted = differences(lambda s: hvp(f, p + s * v, v)[1], torch.zeros(1, dtype=DOUBLE), 1e-3)[0]
    at = p.clone().requires_grad_()
    (one,) = torch.autograd.grad(f(at), at, create_graph=True)
    (two,) = torch.autograd.grad(one @ v, at, create_graph=True)
    (three,) = torch.autograd.grad(two @ v, at)
    torch.testing.assert_close(three, wanted, rtol=1e-5, atol=1e-5)


def test_a_penalty_on_gradients_trains_the_layer():
    layer, x, v, h = EGNNLayer(2).double(), normal(4, 3), normal(4, 3, seed=1), normal(4, 2, seed=2)

    def penalty():
        at = x.clone().requires_grad_()
        moved, features = layer(at, v, h, Graph(RING, 4))
        (slope,) = torch.autograd.grad(moved.square().sum() + features.sum(), at, create_graph=True)
        return slope.square().sum()

    for parameter in (layer.message[0].weight, layer.message[2].bias, layer.position[2].weight):
        (found,) = torch.autograd.grad(penalty(), parameter)
        start = parameter.data.clone()

        def at(values, parameter=parameter):
            parameter.data = values.view_as(parameter)
            return penalty().detach()

        wanted = differences(at, start.flatten(), 1e-3).view_as(found)
        parameter.data = start
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_vmap_of_gradients_where_shapes_allow_it():
    for name in ("messages, both", "score of a mixture", "guided score"):
        f, p = CASES[name]
        each = torch.stack([p, 0.9 * p])
        if name == "score of a mixture":  # looks at its values to choose a series
            continue
        wanted = torch.stack([gradient(f, row) for row in each])
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(each), wanted, rtol=1e-9, atol=1e-11)


def test_every_function_with_a_derivative_of_its_own_is_here():
    """Whoever adds one adds a case above; what has a first derivative only is tested beside its kind."""
    for module in pkgutil.walk_packages(loupe.__path__, "loupe."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = {
        c.__qualname__ for c in torch.autograd.Function.__subclasses__() if c.__module__.startswith("loupe.")
    }
    assert own == {
        "Attached",
        "_Attached",
        "_FollowPoints",
        "_SymmetricLog",
        "_UnitaryLog",
        "_ScoreEntropy",
        "Messages",
        "_FirstOrder",
        "_NoDerivative",  # it raises, and test_kernels.py of riemannian asks it to
    }
