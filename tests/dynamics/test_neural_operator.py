"""The neural operator by its equations, in loops; its times; symmetries; derivatives; what it refuses."""

import math

import numpy as np
import pytest
import torch
from layers import array, chain, egnn_layer_by_definition, generator, perturbed
from small_networks import (
    GRAPHS,
    MODELS,
    TINY,
    embedding_by_definition,
    given,
    network,
    rotation,
    spectral_by_definition,
)

from loupe.dynamics import (
    EGNN,
    EGNO,
    MessagePassing,
    RadialField,
    SequentialEGNN,
    input_features,
    load_network,
    save_network,
)
from loupe.networks.egnn import EGNNLayer, Graph

# ---- equations, in numpy


def network_by_definition(net, x0, v0, features, graph, known, taus, between=()):
    x0, v0, features, known = (array(t) for t in (x0, v0, features, known))
    batch, edges = graph.batch.numpy(), graph.edges.numpy()
    centre = np.stack([x0[batch == g].mean(0) for g in batch])
    P = len(taus)
    x, v = np.stack([x0] * P), np.stack([v0] * P)
    h = np.stack(
        [
            [
                chain([net.embed], np.concatenate([f, embedding_by_definition(tau, net.embedding)]))
                for f in features
            ]
            for tau in taus
        ]
    )
    for k, layer in enumerate(net.layers):
        if net.on_invariants:
            c = spectral_by_definition(h, array(net.on_invariants[k].weight), between)
            h = h + np.where(c > 0, c, 0.01 * c)
        if net.on_vectors:
            weight = array(net.on_vectors[k].weight)
            z = np.stack([x - centre, v], axis=-1)
            for d in range(3):
                z[:, :, d] += spectral_by_definition(z[:, :, d], weight, between)
            x, v = z[..., 0] + centre, z[..., 1]
        slices = [egnn_layer_by_definition(layer, x[p], v[p], h[p], edges, known) for p in range(P)]
        x, h = (np.stack([s[part] for s in slices]) for part in (0, 1))
    return x, v, h


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("convolve", [("invariants", "vectors"), ("invariants",), ("vectors",), ()])
def test_network_by_definition(name, convolve):
    net, (x, v, f, graph, e) = network(convolve=convolve), given(GRAPHS[name])
    found = net.states(x, v, f, graph, e)
    wanted = network_by_definition(net, x, v, f, graph, e, range(5))
    for one, two in zip(found, wanted, strict=True):
        scale = np.abs(two).max()
        np.testing.assert_allclose(array(one) / scale, two / scale, rtol=1e-10, atol=1e-10)
    assert torch.equal(net(x, v, f, graph, e), found.positions)


@pytest.mark.parametrize("coord", ["index", "physical"])
@pytest.mark.parametrize("slices", [5, 10])
def test_times_are_read_between_slices(coord, slices):
    """At even times and others, one by one or together: one prediction for a time, that of the slices' convolution."""
    net, values = network(time_coord=coord), given(GRAPHS["complete"])
    grid, times = net(*values, slices=slices), [0.05, 0.4, 0.41, 1.0]
    found = net(*values, slices=slices, times=times)
    torch.testing.assert_close(found[[1, 3]], grid[[2 * slices // 5 - 1, -1]], rtol=1e-12, atol=1e-12)
    alone = torch.cat([net(*values, slices=slices, times=[t]) for t in times])
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)
    between = [slices * t - 1 for t in times]
    taus = [*range(slices), *between]
    taus = taus if coord == "index" else [5 * (p + 1) / slices - 1 for p in taus]
    wanted = network_by_definition(net, *values, taus, between)[0][slices:]
    np.testing.assert_allclose(array(found), wanted, rtol=1e-10, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_orders_of_work_agree(name, dtype, digits):
    net, (x, v, f, graph, e) = network().to(dtype), given(GRAPHS[name], dtype)
    for one, two in zip(net.states(x, v, f, graph, e), net.states(x, v, f, graph.listed(), e), strict=True):
        assert (one - two).abs().max() <= digits * max(1, two.detach().abs().max())


def test_initial_weights():
    """Uniform in [0, 1), not centered, over the square of the width; of vectors in [0, 0.1)."""
    net = EGNO(1, 2, seed=3)
    for module, scale in [(m, 1 / 64**2) for m in net.on_invariants] + [(m, 0.1) for m in net.on_vectors]:
        assert module.weight.min() >= 0
        assert module.weight.max() < scale
    pooled = torch.stack([m.weight for m in net.on_invariants])
    assert pooled.shape == (4, 64, 64, 2, 2)
    assert float(pooled.detach().mean()) == pytest.approx(0.5 / 64**2, rel=0.01)
    assert torch.stack([m.weight for m in net.on_vectors]).mean().item() == pytest.approx(0.05, rel=0.3)


# ---- symmetries (EG1, EG3)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_turned_mirrored_and_moved(kind, name, sign, dtype, digits):
    """EG1, and its baselines."""
    net, (x, v, f, graph, e) = MODELS[kind]().to(dtype), given(GRAPHS[name], dtype)
    R, shift = rotation(sign, dtype), torch.tensor([10.0, -7.0, 3.0], dtype=dtype)
    wanted = net.states(x, v, f, graph, e)
    found = net.states(x @ R.T + shift, v @ R.T, f, graph, e)
    scale = max(1, wanted.positions.detach().abs().max())
    assert (found.positions - (wanted.positions @ R.T + shift)).abs().max() < digits * scale
    assert (found.velocities - wanted.velocities @ R.T).abs().max() < digits * scale
    if wanted.features is not None:
        assert (found.features - wanted.features).abs().max() < digits * wanted.features.detach().abs().max()


@pytest.mark.parametrize("kind", MODELS)
def test_renumbered(kind):
    """EG1: nodes of all systems in another order, and edges too."""
    net, (x, v, f, graph, e) = MODELS[kind](), given(GRAPHS["trees"])
    order = torch.randperm(graph.nodes, generator=generator(5))
    edges = torch.randperm(graph.edges.shape[1], generator=generator(6))
    other = Graph(order.argsort()[graph.edges][:, edges], graph.nodes, batch=graph.batch[order])
    found = net(x[order], v[order], f[order], other, e[edges])
    torch.testing.assert_close(found, net(x, v, f, graph, e)[:, order], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [*MODELS, "message passing"])
def test_systems_do_not_meet(kind):
    """What is predicted for a system does not depend on its company."""
    models = MODELS | {"message passing": lambda: perturbed(MessagePassing(2, 3, width=6, layers=2))}
    net, (x, v, f, _, e) = models[kind](), given(GRAPHS["complete"])
    alone = Graph.complete(1, 4)
    parts = [net(x[i : i + 4], v[i : i + 4], f[i : i + 4], alone, e[3 * i : 3 * i + 12]) for i in (0, 4, 8)]
    together = net(x, v, f, GRAPHS["complete"], e)
    torch.testing.assert_close(together, torch.cat(parts, dim=1), rtol=1e-11, atol=1e-11)


# ---- what the network contains


def test_gradients_of_one_block():
    net, (x, v, f, graph, e) = network(layers=1, width=3, slices=3), given(Graph.complete(1, 3))
    names = [name for name, _ in net.named_parameters()]

    def out(x, v, f, e, *weights):
        weights = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(net, weights, (x, v, f, graph, e))

    inputs = [t.requires_grad_() for t in (x, v, f, e, *net.parameters())]
    torch.autograd.gradcheck(out, inputs, atol=1e-6, fast_mode=True)


def test_every_parameter_learns():
    """Positions do not see the last renewal of features; the mean of what is convolved has no imaginary part."""
    net, values = network(layers=3), given(GRAPHS["complete"])
    net(*values).square().sum().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("layers.2.feature"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 1e-9, name
        if name.startswith("on_"):
            assert parameter.grad[:, :, 0, 1].abs().max() == 0, name
            assert parameter.grad[:, :, 1].abs().min() > 0, name


@pytest.mark.parametrize(
    ("F", "E", "L", "H", "P", "I", "number"),
    [
        (1, 2, 4, 64, 5, 2, 201_672),
        (2, 2, 6, 128, 5, 2, 1_192_684),
        (2, 5, 5, 64, 8, 2, 252_570),
        (2, 2, 4, 128, 4, 2, 796_616),
    ],
    ids=["N-body", "motion capture", "MD17", "protein"],
)
def test_sizes_of_the_paper(F, E, L, H, P, I, number):  # noqa: E741
    net = EGNO(F, E, width=H, layers=L, modes=I, slices=P)
    assert sum(p.numel() for p in net.parameters()) == number


@pytest.mark.parametrize(
    "make", [EGNO, EGNN, SequentialEGNN, MessagePassing, lambda *a, seed: RadialField(3, seed=seed)]
)
def test_seeds_of_weights(make):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    nets = [make(2, 3, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    assert all(not torch.equal(nets[0][name], nets[2][name]) for name in nets[0])


def test_inference_then_training():
    """Matrices made in inference mode are not those of training."""
    net, values = network(), given(GRAPHS["complete"])
    with torch.inference_mode():
        wanted = net(*values)
    net(*values).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(net(*values), wanted, rtol=0, atol=0)


def test_compiled_whole():
    net, values = network(), given(GRAPHS["complete"])
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for options in ({}, {"times": [0.3, 1.0]}):
        torch.testing.assert_close(compiled(*values, **options), net(*values, **options), rtol=0, atol=1e-11)
    assert compiled(values[0] * torch.nan, *values[1:]).isnan().all()
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("options", [dict(), dict(slices=17, modes=4)], ids=["matrices", "FFT"])
def test_transforms_of_functions(options):
    """Fresh networks under vmap, over states and over weights; what is made there does not outlive it."""
    net, (x, v, f, graph, e) = network(**options), given(GRAPHS["trees"])
    for derivative in (torch.func.hessian, torch.func.grad):
        found = derivative(lambda s: net(s * x, v, f, graph, e).square().mean())(torch.ones(()).double())
        assert found.isfinite()
    many = torch.func.vmap(lambda x: net(x, v, f, graph, e))(torch.stack([x, 2 * x]))
    torch.testing.assert_close(many[1], net(2 * x, v, f, graph, e), rtol=1e-11, atol=1e-11)
    assert torch.func.vmap(lambda x: net(x, v, f, graph, e))(x[None] * torch.nan).isnan().any()
    base, *nets = (network(seed=seed, **options) for seed in range(3))
    weights, _ = torch.func.stack_module_state(nets)

    def loss(weights):
        return torch.func.functional_call(base, weights, (x, v, f, graph, e)).square().mean()

    found = torch.func.vmap(torch.func.grad(loss))(weights)["embed.weight"]
    for one, other in zip(nets, found, strict=True):
        one(x, v, f, graph, e).square().mean().backward()
        torch.testing.assert_close(other, one.embed.weight.grad, rtol=1e-9, atol=1e-11)


def test_dimensions_and_lists_of_edges():
    """In the plane as in space with a third coordinate of 0; edges in place of a graph, of one system."""
    x, v, f, graph, e = given(GRAPHS["trees"])
    flat, speed = x[:, :2].contiguous(), v[:, :2].contiguous()
    pad = lambda value: torch.nn.functional.pad(value, (0, 1))  # noqa: E731
    for model in MODELS.values():
        net = model()
        found = net(flat, speed, f, graph, e)
        torch.testing.assert_close(
            pad(found), net(pad(flat), pad(speed), f, graph, e), rtol=1e-11, atol=1e-11
        )
        assert torch.equal(net(x, v, f, graph.edges, e), net(x, v, f, Graph(graph.edges, 10), e))
    assert MessagePassing(2, 3, width=6, dimension=2).double()(flat, speed, f, graph, e).shape == (1, 10, 2)
    with pytest.raises(ValueError, match=r"positions must have shape \(10, 3\), got \(10, 2\)"):
        MessagePassing(2, 3, width=6).double()(flat, speed, f, graph, e)
    layer, h = EGNNLayer(2, 3).double(), f.unsqueeze(0)
    assert torch.equal(
        layer(x[None], v[None], h, graph.edges, e)[0],
        layer(x[None], v[None], h, Graph(graph.edges, 10), e)[0],
    )
    features = input_features(flat, speed, graph.edges)
    assert all(torch.equal(*pair) for pair in zip(features, input_features(flat, speed, graph), strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_loaded(kind, tmp_path):
    net, values = MODELS[kind](), given(GRAPHS["complete"])
    save_network(net, tmp_path / "net.pt")
    again = load_network(tmp_path / "net.pt")
    assert type(again) is type(net)
    assert torch.equal(again(*values), net(*values))
    assert again.options == net.options
    weights = torch.load(tmp_path / "net.pt", weights_only=True)["weights"]
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"the network must be one of EGNO, .* got Linear"):
        save_network(torch.nn.Linear(1, 1), tmp_path / "other.pt")
    torch.save(net.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt holds no network that save_network wrote"):
        load_network(tmp_path / "other.pt")


def test_off_the_cpu():
    """Where values cannot be read, as on a meta device, nothing asks for them."""
    net, (x, v, f, graph, e) = EGNO(2, 3, **TINY).to("meta"), given(GRAPHS["trees"], torch.float32)
    assert net(*(t.to("meta") for t in (x, v, f, graph, e))).shape == (5, 10, 3)


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(modes=4), r"modes=4 are more than the frequencies of 5 slices: at most 3 can be kept"),
        (dict(slices=1), r"modes=2 are more than the frequencies of 1 slices: at most 1"),
        (dict(slices=0), r"slices must be a positive whole number, got 0"),
        (dict(width=0), r"width must be .* got 0"),
        (dict(layers=1.5), r"layers must be .* got 1.5"),
        (dict(modes=0), r"modes must be .* got 0"),
        (dict(embedding=1), r"embedding must be 0 for none or at least 2, got 1"),
        (dict(time_coord="frame"), r"time_coord must be one of 'index', 'physical', got 'frame'"),
        (dict(convolve="vectors"), r"convolve must list none, one or both .* got 'vectors'"),
        (dict(convolve=("time",)), r"convolve must list .* got \('time',\)"),
    ],
    ids=str,
)
def test_options_that_make_no_network(options, message):
    with pytest.raises(ValueError, match=message):
        EGNO(2, 3, **TINY | options)


def broken(value, where, infinite=math.nan):
    value = value.clone()
    value[where, 1] = infinite
    return value


@pytest.mark.parametrize(
    "net", [network(), MODELS["sequential"](), perturbed(MessagePassing(2, 3, width=6))], ids=str
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, v, f, e: (x[:5], v, f, e), r"positions must be of shape \(12, 3\) .* got \(5, 3\)"),
        (lambda x, v, f, e: (x, v[:, :2], f, e), r"velocities must be of shape \(12, 3\) .* got \(12, 2\)"),
        (lambda x, v, f, e: (x, v, f[:, :1], e), r"node features must be of shape \(12, 2\).* got \(12, 1\)"),
        (lambda x, v, f, e: (x, v, None, e), r"node features must be of shape \(12, 2\).* got none"),
        (lambda x, v, f, e: (x, v, f, e[:7]), r"edge features must be of shape \(36, 3\).* got \(7, 3\)"),
        (
            lambda x, v, f, e: (broken(x, 9), v, f, e),
            r"positions of system 2 are not finite, first at node 9",
        ),
        (
            lambda x, v, f, e: (x, broken(v, 4, math.inf), f, e),
            r"velocities of system 1 are not finite.* node 4",
        ),
    ],
    ids=range(7),
)
def test_input_that_does_not_suit(net, change, message):
    x, v, f, graph, e = given(GRAPHS["complete"])
    x, v, f, e = change(x, v, f, e)
    with pytest.raises(ValueError, match=message):
        net(x, v, f, graph, e)


def test_no_edges():
    """Allowed, with a warning when the graph is made: points go on as features tell them."""
    with pytest.warns(RuntimeWarning, match="no edges"):
        graph = Graph(torch.zeros(2, 0, dtype=torch.int64), 4, graphs=2)
    x, v, f, graph, e = given(graph)
    assert network()(x, v, f, graph, e).isfinite().all()
