"""The neural operator by its equations, in loops; convolutions in time; symmetries; what it is compared with."""

import math

import numpy as np
import pytest
import torch
from layers import array, chain, egnn_layer_by_definition, generator, perturbed, silu

from loupe.dynamics.neural_operator import (
    EGNN,
    EGNO,
    Linear,
    MessagePassing,
    RadialField,
    SequentialEGNN,
    TemporalConvolution,
    dft_matrices,
    input_features,
    rollout,
    time_embedding,
    window_times,
)
from loupe.networks.egnn import Graph

TINY = dict(width=6, layers=2, modes=2, slices=5, embedding=4)
TREE = torch.tensor([[0, 1, 1, 2, 1, 3, 3, 4], [1, 0, 2, 1, 3, 1, 4, 3]])
SIZES = Graph(torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2]]), 5, batch=torch.tensor([0, 0, 1, 1, 1]))
GRAPHS = {"complete": Graph.complete(3, 4), "trees": Graph.repeated(TREE, 5, 2), "of two sizes": SIZES}
LENGTHS = [(1, 1), (2, 1), (2, 2), (3, 2), (4, 3), (5, 2), (5, 3), (8, 2), (16, 3)]


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def network(kind=EGNO, **options):
    return perturbed(kind(2, 3, **TINY | options))


def given(graph, dtype=torch.float64):
    """Positions, velocities, features, the graph, edge features: what networks are called with."""
    n, m = graph.nodes, graph.edges.shape[1]
    x, v, f, e = (normal(k, *s).to(dtype) for k, s in enumerate([(n, 3), (n, 3), (n, 2), (m, 3)], start=1))
    return x, v, f, graph, e


# ---- equations, in numpy


def spectral_by_definition(z, weight):
    """Fourier sums of ``z [P, rows, C]``, frequency by frequency, with its conjugate on the way back."""
    P = len(z)
    out = np.zeros((P, z.shape[1], weight.shape[1]))
    for k in range(weight.shape[2]):
        turn = np.exp(-2j * np.pi * k * np.arange(P) / P)
        M = weight[:, :, k, 0] + 1j * weight[:, :, k, 1]
        mode = sum(turn[p] * z[p] for p in range(P)) @ M
        twice = 1 if k in (0, P / 2) else 2
        for p in range(P):
            out[p] += twice * (mode / turn[p]).real / P
    return out


def embedding_by_definition(tau, dim):
    half = dim // 2
    waves = [math.exp(-math.log(10_000) * k / (half - 1)) for k in range(half)]
    return [math.sin(w * tau) for w in waves] + [math.cos(w * tau) for w in waves]


def network_by_definition(net, x0, v0, features, graph, known, taus):
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
            c = spectral_by_definition(h, array(net.on_invariants[k].weight))
            h = h + np.where(c > 0, c, 0.01 * c)
        if net.on_vectors:
            weight = array(net.on_vectors[k].weight)
            z = np.stack([x - centre, v], axis=-1)
            for d in range(3):
                z[:, :, d] += spectral_by_definition(z[:, :, d], weight)
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


def test_other_times_by_definition():
    net, (x, v, f, graph, e) = network(time_coord="physical"), given(GRAPHS["complete"])
    times = [0.3, 0.35, 0.9]
    found = net(x, v, f, graph, e, times=times)
    wanted = network_by_definition(net, x, v, f, graph, e, [5 * t - 1 for t in times])[0]
    np.testing.assert_allclose(array(found), wanted, rtol=1e-10, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_orders_of_work_agree(name, dtype, digits):
    net, (x, v, f, graph, e) = network().to(dtype), given(GRAPHS[name], dtype)
    for one, two in zip(net.states(x, v, f, graph, e), net.states(x, v, f, graph.listed(), e), strict=True):
        assert (one - two).abs().max() <= digits * max(1, two.detach().abs().max())


# ---- time embedding, times


def test_time_embedding():
    assert time_embedding(torch.zeros(1), 6).tolist() == [[0, 0, 0, 1, 1, 1]]
    wanted = [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]
    np.testing.assert_allclose(time_embedding(torch.tensor([3.0]), 4)[0], wanted, rtol=1e-14)
    np.testing.assert_allclose(
        time_embedding(torch.tensor([2.5]))[0], embedding_by_definition(2.5, 32), rtol=1e-13
    )
    assert time_embedding(torch.tensor([1.0, 2.0]), 5)[:, -1].tolist() == [0, 0]
    assert time_embedding(torch.tensor([2.0]), 2)[0].tolist() == pytest.approx([math.sin(2), math.cos(2)])
    with pytest.raises(ValueError, match="dim must be a whole number of at least 2"):
        time_embedding(torch.zeros(1), 1)


def test_index_and_physical_times():
    """The same in training; elsewhere physical times lie between."""
    nets = [network(time_coord=coord) for coord in ("index", "physical")]
    values = given(GRAPHS["complete"])
    one, two = (net(*values) for net in nets)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    one, two = (net(*values, slices=10) for net in nets)
    assert len(one) == len(two) == 10
    assert (one - two).abs().max() > 1e-3
    times = [p / 10 for p in range(1, 11)]
    torch.testing.assert_close(nets[1](*values, times=times), two, rtol=1e-12, atol=1e-12)


def test_slices_without_convolution_know_only_their_time():
    """Zero-shot times: asked for one by one, or among others, they are the same."""
    net, values = network(time_coord="physical", convolve=()), given(GRAPHS["trees"])
    found = net(*values, slices=10)
    torch.testing.assert_close(found[1::2], net(*values), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[2:3], net(*values, times=[0.3]), rtol=1e-12, atol=1e-12)


# ---- convolutions along time (EG2)


def convolution(channels, modes, vectors=False):
    module = TemporalConvolution(channels, modes, vectors=vectors).double()
    with torch.no_grad():
        module.weight.copy_(normal(8, *module.weight.shape))
    return module


@pytest.mark.parametrize(("P", "modes"), LENGTHS)
@pytest.mark.parametrize(("shape", "vectors"), [((7, 5), False), ((4, 3, 2), True)])
def test_both_transforms_and_the_definition(P, modes, shape, vectors):
    module, z = convolution(shape[-1], modes, vectors), normal(3, P, *shape)
    wanted = spectral_by_definition(z.numpy().reshape(P, -1, shape[-1]), array(module.weight)).reshape(
        z.shape
    )
    for found in (module.by_fft(z), module.by_matrices(z), module.convolved(z)):
        np.testing.assert_allclose(array(found), wanted, rtol=1e-12, atol=1e-12)
    added = wanted if vectors else np.where(wanted > 0, wanted, 0.01 * wanted)
    np.testing.assert_allclose(array(module(z)), z.numpy() + added, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("P", "modes"), LENGTHS)
def test_circular_convolution_in_time(P, modes):
    """EG2: the kernel is the inverse transform of the weights, completed to those of a real one."""
    module, z = convolution(4, modes), normal(3, P, 6, 4)
    weight = array(module.weight)
    spectrum = np.zeros((P, 4, 4), complex)
    for k in range(modes):
        M = weight[:, :, k, 0] + 1j * weight[:, :, k, 1]
        # A kernel that is real has real weights at frequencies that are their own mirror.
        spectrum[k], spectrum[-k] = (M.real, M.real) if k in (0, P / 2) else (M, M.conj())
    kernel = np.fft.ifft(spectrum, axis=0)
    assert np.abs(kernel.imag).max() < 1e-15
    wanted = np.zeros(z.shape)
    for p in range(P):
        for tau in range(P):
            wanted[p] += z[(p - tau) % P].numpy() @ kernel[tau].real
    for found in (module.by_fft(z), module.by_matrices(z)):
        assert np.abs(array(found) - wanted).max() < 1e-12 * np.abs(wanted).max()


def test_transform_follows_shape(monkeypatch):
    used = []
    for name in ("by_fft", "by_matrices"):
        monkeypatch.setattr(TemporalConvolution, name, lambda self, z, name=name: used.append(name) or z)
    for P, modes in ((16, 3), (17, 3), (16, 4), (5, 2)):
        TemporalConvolution(2, modes)(torch.zeros(P, 1, 2))
    assert used == ["by_matrices", "by_fft", "by_fft", "by_matrices"]


@pytest.mark.parametrize("P", [4, 5, 8])
def test_weight_one(P):
    """All frequencies: the identity; the first: the mean over time; two: mean and first harmonic, as in Parseval."""
    z, eye = normal(3, P, 6, 2), torch.eye(2).double()

    def convolved(modes):
        module = convolution(2, modes)
        with torch.no_grad():
            module.weight.zero_()[..., 0] = eye.unsqueeze(-1)
        return module.convolved(z)

    torch.testing.assert_close(convolved(P // 2 + 1), z, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(convolved(1), z.mean(0, keepdim=True).expand_as(z), rtol=1e-13, atol=1e-13)
    found, modes = convolved(2), torch.fft.fft(z, dim=0)
    turn = 2 * math.pi * torch.arange(P, dtype=torch.float64).view(P, 1, 1) / P
    first = 2 / P * ((z * turn.cos()).sum(0) * turn.cos() + (z * turn.sin()).sum(0) * turn.sin())
    torch.testing.assert_close(found, z.mean(0) + first, rtol=1e-12, atol=1e-12)
    energy = (modes[[0, 1, -1]].abs() ** 2).sum() / P
    torch.testing.assert_close((found**2).sum(), energy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("vectors", [False, True])
def test_constant_stays_constant(vectors):
    module = convolution(2, 3, vectors)
    z = normal(3, 1, 4, 3, 2).expand(5, -1, -1, -1)
    for found in (module(z), module.by_fft(z)):
        torch.testing.assert_close(found, found[:1].expand_as(found), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("P", "modes"), [(5, 2), (4, 3), (1, 1)])
@pytest.mark.parametrize("transform", ["by_fft", "by_matrices"])
def test_weights_without_effect(P, modes, transform):
    """Of the mean, and of the highest frequency of an even number of slices, the imaginary part has gradient 0."""
    module = convolution(3, modes)
    getattr(module, transform)(normal(3, P, 4, 3)).square().sum().backward()
    alone = [k in (0, P / 2) for k in range(modes)]
    for k in range(modes):
        assert (module.weight.grad[:, :, k, 1].abs().max() == 0) == alone[k]
        assert module.weight.grad[:, :, k, 0].abs().min() > 0


@pytest.mark.parametrize("transform", ["by_fft", "by_matrices"])
@pytest.mark.parametrize(("P", "modes"), [(5, 2), (4, 3)])
def test_gradients_of_convolutions(transform, P, modes):
    module = convolution(2, modes)

    def out(z, weight):
        return torch.func.functional_call(Convolved(module, transform), {"module.weight": weight}, (z,))

    torch.autograd.gradcheck(out, (normal(3, P, 3, 2).requires_grad_(), module.weight), atol=1e-7)


class Convolved(torch.nn.Module):
    def __init__(self, module, transform):
        super().__init__()
        self.module, self.transform = module, transform

    def forward(self, z):
        return getattr(self.module, self.transform)(z)


def test_matrices_of_half_precision():
    module, z = convolution(4, 2).float(), normal(3, 5, 6, 4)
    wanted = module(z.float())
    for transform in (module.by_fft, module.by_matrices):
        found = transform(z.bfloat16())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), module.by_fft(z.bfloat16().float()), rtol=1e-2, atol=1e-2)
    assert (module(z.bfloat16()).float() - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_transform_there_and_back():
    analysis, parts, synthesis = dft_matrices(6, 4)
    assert parts.tolist() == [0, 2, 3, 3, 2, 4, 5, 5, 4, 6]
    real = parts % 2 == 0
    torch.testing.assert_close(
        (synthesis[:, real] @ analysis[real]), torch.eye(6).double(), rtol=0, atol=1e-14
    )


def test_initial_weights():
    """Uniform in [0, 1), not centred, over the square of the width; of vectors in [0, 0.1)."""
    net = EGNO(1, 2, seed=3)
    for module, scale in [(m, 1 / 64**2) for m in net.on_invariants] + [(m, 0.1) for m in net.on_vectors]:
        assert module.weight.min() >= 0
        assert module.weight.max() < scale
    pooled = torch.stack([m.weight for m in net.on_invariants])
    assert pooled.shape == (4, 64, 64, 2, 2)
    assert float(pooled.detach().mean()) == pytest.approx(0.5 / 64**2, rel=0.01)
    assert torch.stack([m.weight for m in net.on_vectors]).mean().item() == pytest.approx(0.05, rel=0.3)


# ---- symmetries (EG1, EG3)


def rotation(sign, dtype):
    R = torch.linalg.qr(normal(7, 3, 3)).Q
    return (sign * R.det().sign() * R).to(dtype)


MODELS = {
    "EGNO": lambda: network(),
    "EGNO, FFT": lambda: network(slices=17, modes=4),
    "EGNN": lambda: perturbed(EGNN(2, 3, width=6, layers=2)),
    "sequential": lambda: perturbed(SequentialEGNN(2, 3, width=6, layers=3, slices=5)),
    "radial": lambda: perturbed(RadialField(3, width=6, layers=2)),
    "linear": lambda: Linear(5).double(),
}


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


class ByCoordinate(torch.nn.Module):
    """A convolution of vectors with weights that differ from coordinate to coordinate."""

    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ModuleList(TemporalConvolution(2, 2, vectors=True).double() for _ in range(3))
        with torch.no_grad():
            for k, part in enumerate(self.parts):
                part.weight.copy_(0.1 * normal(20 + k, 2, 2, 2, 2))

    def forward(self, z):
        return torch.stack([part(z[..., d, :]) for d, part in enumerate(self.parts)], dim=-2)


def test_broken_by_kernels_of_coordinates():
    """EG3: with a kernel for each coordinate, turning no longer commutes; with one for all, it does."""
    net, (x, v, f, graph, e) = network(), given(GRAPHS["complete"])
    R = rotation(1, torch.float64)

    def deviation():
        wanted = net(x, v, f, graph, e) @ R.T
        return float(
            ((net(x @ R.T, v @ R.T, f, graph, e) - wanted).abs().max() / wanted.abs().max()).detach()
        )

    assert deviation() < 1e-10
    net.on_vectors = torch.nn.ModuleList(ByCoordinate() for _ in range(2))
    assert deviation() > 1e-2


def test_message_passing_is_not_equivariant():
    net, (x, v, f, graph, e) = perturbed(MessagePassing(2, 3, width=6, layers=2)), given(GRAPHS["complete"])
    R, wanted = rotation(1, torch.float64), net(x, v, f, graph, e)
    assert (net(x @ R.T, v @ R.T, f, graph, e) - wanted @ R.T).abs().max() > 1e-2
    shift = torch.tensor([10.0, 0.0, 0.0]).double()
    assert (net(x + shift, v, f, graph, e) - wanted - shift).abs().max() > 1e-2


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


def test_without_time_it_is_the_graph_network():
    """Temporal weights 0 and no time embedding: every slice is the EGNN of these weights."""
    net = network(embedding=0)
    with torch.no_grad():
        for module in (*net.on_invariants, *net.on_vectors):
            module.weight.zero_()
    small = EGNN(2, 3, width=6, layers=2).double()
    missing = small.load_state_dict(net.state_dict(), strict=False)
    assert not missing.missing_keys
    values = given(GRAPHS["trees"])
    wanted = small(*values)
    assert wanted.shape == (1, 10, 3)
    torch.testing.assert_close(net(*values), wanted.expand(5, -1, -1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", GRAPHS)
def test_straight_on(name):
    """phi_v = a and phi_x = 0 in L layers: x0 + L a v0."""
    net, (x, v, f, graph, e) = network(layers=3, convolve=("invariants",)), given(GRAPHS[name])
    with torch.no_grad():
        for layer in net.layers:
            for last, value in ((layer.velocity[2], 0.25), (layer.position[2], 0)):
                last.weight.zero_()
                last.bias.fill_(value)
    found = net(x, v, f, graph, e)
    torch.testing.assert_close(found, (x + 0.75 * v).expand_as(found), rtol=1e-13, atol=1e-13)


def test_clamp_rests():
    """At the paper's size, on states as in the charged systems, forces stay far below 100."""
    net, graph = EGNO(1, 2), Graph.complete(20, 5)
    x, v = normal(1, 100, 3).float(), normal(2, 100, 3).float()
    v = v / (2 * v.norm(dim=1, keepdim=True))
    charges = normal(3, 100).sign().float()
    f, e = input_features(x, v, graph, edge_values=charges[graph.edges].prod(0))
    largest = []
    inside = graph.averaged
    graph.averaged = lambda values: (
        largest.append(float(inside(values).detach().abs().max())) or inside(values)
    )
    net(x, v, f, graph, e)
    assert len(largest) == 4
    assert max(largest) < 10


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


def count(F, E, H, L, I, dim=32):  # noqa: E741 - the paper's letter
    """Numbers of a network: a map of k inputs to l outputs has (k + 1) l."""

    def linear(k, l):  # noqa: E741
        return (k + 1) * l

    layer = linear(1 + 2 * H + E, H) + linear(H, H)
    layer += 2 * (linear(H, H) + linear(H, 1)) + linear(2 * H, H) + linear(H, H)
    return linear(F + dim, H) + L * (layer + 2 * I * H**2 + 2 * I * 2**2)


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
    assert sum(p.numel() for p in net.parameters()) == count(F, E, H, L, I) == number


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
    torch.testing.assert_close(compiled(*values), net(*values), rtol=1e-11, atol=1e-11)
    torch.compiler.reset()


def test_off_the_cpu():
    """Where values cannot be read, as on a meta device, nothing asks for them."""
    net, (x, v, f, graph, e) = EGNO(2, 3, **TINY).to("meta"), given(GRAPHS["trees"], torch.float32)
    assert net(*(t.to("meta") for t in (x, v, f, graph, e))).shape == (5, 10, 3)


def test_loss_falls():
    """A few steps towards the truth of a spring."""
    graph = Graph.complete(20, 3)
    x, v = normal(1, 60, 3).float(), normal(2, 60, 3).float()
    middle = graph.centroids(graph.fold(x)).expand(1, 3, -1, -1)
    middle = graph.unfold(middle, ()).contiguous()
    angles = torch.linspace(0.2, 1, 5).view(-1, 1, 1)
    truth = middle + angles.cos() * (x - middle) + angles.sin() * v
    f, e = input_features(x, v, graph)
    net = EGNO(1, 1, width=16, layers=2)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=5e-3), []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x, v, f, graph, e) - truth).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# ---- baselines


def test_linear():
    x, v, f, graph, e = given(GRAPHS["complete"])
    net = Linear(5).double()
    with torch.no_grad():
        net.scale.fill_(0.5)
    found = net(x, v)
    for p in range(5):
        torch.testing.assert_close(found[p], x + 0.5 * (p + 1) / 5 * v)
    assert torch.equal(Linear().double()(x, v, f, graph, e)[0], x + v)
    assert sum(p.numel() for p in net.parameters()) == 1
    assert len(net(x, v, times=[0.25, 1.0])) == 2


@pytest.mark.parametrize(
    ("layers", "slices", "reads"),
    [
        (4, 5, (1, 2, 2, 3, 4)),
        (5, 5, (1, 2, 3, 4, 5)),
        (6, 5, (1, 2, 4, 5, 6)),
        (4, 8, (1, 1, 2, 2, 3, 3, 4, 4)),
        (3, 1, (3,)),
    ],
)
def test_sequential_reads_between_layers(layers, slices, reads):
    net = perturbed(SequentialEGNN(2, 3, width=6, layers=layers, slices=slices))
    assert net.reads == reads
    values = given(GRAPHS["complete"])
    found = net.states(*values)
    for p, depth in enumerate(reads):
        short = EGNN(2, 3, width=6, layers=depth).double()
        short.load_state_dict({k: w for k, w in net.state_dict().items() if k in short.state_dict()})
        wanted = short.states(*values)
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one[p], two[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_radial_field_by_definition(name):
    net, (x, v, f, graph, e) = perturbed(RadialField(3, width=6, layers=2)), given(GRAPHS[name])
    found = net(x, v, f, graph, e)
    x, v, e = (array(t).copy() for t in (x, v, e))
    for radial, speed in zip(net.radial, net.speed, strict=True):
        force, degree = np.zeros_like(x), np.zeros(len(x))
        for (i, j), known in zip(graph.edges.numpy().T, e, strict=True):
            force[i] += (x[i] - x[j]) * np.tanh(
                chain(radial, np.concatenate([[np.linalg.norm(x[i] - x[j])], known]))
            )
            degree[i] += 1
        moves = np.stack([chain(speed, np.array([np.linalg.norm(w)])) * w for w in v])
        x = x + moves + force / np.maximum(degree, 1)[:, None]
    np.testing.assert_allclose(array(found)[0], x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", GRAPHS)
def test_message_passing_by_definition(name):
    net, (x, v, f, graph, e) = perturbed(MessagePassing(2, 3, width=6, layers=2)), given(GRAPHS[name])
    found = net(x, v, f, graph, e)
    x, v, f, e = (array(t) for t in (x, v, f, e))
    h = np.stack([chain([net.embed], np.concatenate(row)) for row in zip(x, v, f, strict=True)])
    for message, feature in zip(net.message, net.feature, strict=True):
        heard = np.zeros_like(h)
        for (i, j), known in zip(graph.edges.numpy().T, e, strict=True):
            heard[i] += silu(chain(message[0], np.concatenate([h[i], h[j], known])))
        h = h + np.stack([chain(feature, np.concatenate(row)) for row in zip(h, heard, strict=True)])
    wanted = x + np.stack([chain(net.head, row) for row in h])
    np.testing.assert_allclose(array(found)[0], wanted, rtol=1e-11, atol=1e-11)


def test_rollout():
    net, graph = perturbed(EGNN(1, 1, width=6, layers=2)), Graph.complete(3, 4)
    x, v = normal(1, 12, 3), normal(2, 12, 3)
    found = rollout(net, x, v, 3, lambda x, v: input_features(x, v, graph), graph, duration=0.2)
    assert found.shape == (3, 12, 3)
    for p in range(3):
        new = net(x, v, *(lambda f, e: (f, graph, e))(*input_features(x, v, graph)))[0]
        torch.testing.assert_close(found[p], new, rtol=1e-12, atol=1e-12)
        x, v = new, (new - x) / 0.2
    straight = rollout(Linear().double(), x, v, 4, None, graph)
    torch.testing.assert_close(straight[3], x + 4 * v, rtol=1e-12, atol=1e-12)


def test_a_rollout_is_held_within_reach():
    """Of where it started, in any direction; what leaves all numbers stays where it was."""

    class Away(torch.nn.Module):
        def forward(self, x, v, features, graph, edge_features):
            return torch.stack([torch.stack([3 * x[0], x[1] + 0.5, x[2] * torch.inf])])

    x0 = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    path = rollout(Away(), x0, torch.zeros(3, 3), 3, None, Graph.complete(1, 3), reach=9.0)
    assert torch.allclose(path[:, 0].norm(dim=1), torch.tensor([9.0, 12.0, 12.0]))
    assert torch.allclose(path[-1, 0] / 12, x0[0] / 3)
    assert torch.allclose(path[:, 1], 0.5 * torch.arange(1, 4).view(3, 1).expand(3, 3))
    assert torch.equal(path[:, 2], x0[2].expand(3, 3))
    with pytest.raises(ValueError, match="reach must be positive"):
        rollout(Away(), x0, x0, 1, None, Graph.complete(1, 3), reach=0.0)


def test_rollout_of_features_that_stay():
    net, (x, v, f, graph, e) = perturbed(EGNN(2, 3, width=6, layers=2)), given(GRAPHS["trees"])
    found = rollout(net, x, v, 2, f, graph, e)
    other = rollout(net, x, v, 2, lambda x, v: f, graph, lambda x, v: e)
    assert torch.equal(found, other)
    R = rotation(-1, torch.float64)
    torch.testing.assert_close(
        rollout(net, x @ R.T, v @ R.T, 2, f, graph, e), found @ R.T, rtol=1e-9, atol=1e-9
    )


# ---- features


def test_input_features():
    x, v, _, graph, _ = given(GRAPHS["complete"])
    numbers, charges = torch.arange(12), normal(5, 36)
    f, e = input_features(x, v, graph, numbers, charges, largest=20)
    row, col = graph.edges
    torch.testing.assert_close(f, torch.stack([v.square().sum(1).sqrt(), numbers / 20], dim=1).double())
    torch.testing.assert_close(e, torch.stack([charges, (x[row] - x[col]).square().sum(1)], dim=1))
    f, e = input_features(x, v, graph, torch.ones(12, 2), normal(5, 36, 2), largest=torch.tensor([2.0, 4.0]))
    assert f[0, 1:].tolist() == [0.5, 0.25]
    assert e.shape == (36, 3)
    f, e = input_features(x, v, graph)
    assert f.shape == (12, 1)
    assert e.shape == (36, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(node_values=torch.zeros(3)), "one for each of 12 nodes, got 3"),
        (dict(edge_values=torch.zeros(3)), "one for each of 36 edges, got 3"),
        (dict(node_values=torch.zeros(12), largest=0), "largest must be positive.* got 0"),
    ],
)
def test_features_that_do_not_suit(options, message):
    x, v, _, graph, _ = given(GRAPHS["complete"])
    with pytest.raises(ValueError, match=message):
        input_features(x, v, graph, **options)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(times=[0.5, 0.5]), r"times must rise within \(0, 1\], got 0.5 after 0.5: sort them"),
        (dict(times=[0.5, 0.4]), r"times must rise .* got 0.4 after 0.5"),
        (dict(times=[0.0, 0.4]), r"times must rise .* got 0 after 0"),
        (dict(times=[0.5, 1.1]), r"times must rise .* got 1.1 after 0.5.* divide by the window"),
        (dict(times=[math.nan, 1]), r"times must rise .* got nan"),
        (dict(times=[]), r"at least one fraction of the window"),
        (dict(times=[[0.5]]), r"at least one fraction .* got shape \(1, 1\)"),
        (dict(slices=3, times=[0.5, 1]), r"slices=3 and 2 times do not suit"),
        (dict(slices=0), r"slices must be a positive whole number, got 0"),
        (dict(slices=1), r"modes=2 are more than the frequencies of 1 slices"),
    ],
    ids=str,
)
def test_times_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        network()(*given(GRAPHS["complete"]), **options)


def test_times_of_windows():
    assert window_times(5).tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert window_times(times=(0.6, 0.7)).tolist() == pytest.approx([0.6, 0.7])


@pytest.mark.parametrize(
    ("steps", "duration", "slices", "message"),
    [
        (0, 1, 1, "steps must be"),
        (2, 0, 1, "duration must be positive"),
        (2, 1, 3, "needs a network of one step.* 3"),
    ],
)
def test_rollouts_that_cannot_be(steps, duration, slices, message):
    x, v, f, graph, e = given(GRAPHS["complete"])
    with pytest.raises(ValueError, match=message):
        rollout(Linear(slices), x, v, steps, f, graph, e, duration=duration)


def test_no_edges():
    """Allowed, with a warning when the graph is made: points go on as features tell them."""
    with pytest.warns(RuntimeWarning, match="no edges"):
        graph = Graph(torch.zeros(2, 0, dtype=torch.int64), 4, graphs=2)
    x, v, f, graph, e = given(graph)
    assert network()(x, v, f, graph, e).isfinite().all()
