"""The MLP with the noise as input: its formula, its size, its first output, and its inputs."""

import math

import numpy as np
import pytest
import torch

from loupe.networks.mlp import NoiseMLP, TranslationMLP
from loupe.networks.noise_embedding import low_frequency_features

TINY = dict(dim=2, width=6, layers=2, condition=5, classes=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(**options):
    """In float64, with noise added to the weights: nothing is 0 any more."""
    net = NoiseMLP(**TINY | options).double()
    with torch.no_grad():
        for k, parameter in enumerate(net.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator(k), dtype=torch.float64)
    return net


X = torch.randn(3, 2, generator=generator(), dtype=torch.float64)
SIGMA = torch.tensor([0.02, 1.0, 30.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 3])


def silu(x):
    return x / (1 + np.exp(-x))


def features(sigma):
    rates = [2 * math.pi / 32 * 32 ** (i / 15) for i in range(16)]
    return np.array([f(math.log(sigma) * rate) for f in (math.cos, math.sin) for rate in rates])


def test_features_by_definition():
    found = low_frequency_features(SIGMA)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, [features(s) for s in SIGMA.tolist()], rtol=0, atol=1e-12)
    single = low_frequency_features(SIGMA.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, found, rtol=0, atol=1e-5)


def test_features_tell_levels_apart():
    """Over fourteen orders of magnitude, the nearer two of 200 levels the closer their features, and none the same."""
    found = low_frequency_features(torch.logspace(-6.9, 6.9, 200, dtype=torch.float64))
    apart = torch.cdist(found, found) + 10 * torch.eye(200)
    assert apart.min() > 0.1
    assert (apart.argmin(1) - torch.arange(200)).abs().max() == 1


def test_network_by_definition():
    net = network(layers=3)
    p = {name: parameter.detach().numpy() for name, parameter in net.named_parameters()}
    found = net(X, SIGMA, LABELS).detach().numpy()
    for b in range(3):
        h = silu(p["embedding.noise.0.weight"] @ features(SIGMA[b].item()) + p["embedding.noise.0.bias"])
        h = p["embedding.noise.2.weight"] @ h + p["embedding.noise.2.bias"]
        condition = silu(h + p["embedding.label.weight"][LABELS[b]])
        x = X[b].numpy()
        for k in range(3):
            x = p[f"hidden.{k}.weight"] @ x + p[f"hidden.{k}.bias"]
            x = silu(x + p[f"condition.{k}.weight"] @ condition)
        wanted = p["head.weight"] @ x + p["head.bias"]
        np.testing.assert_allclose(found[b], wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dim", "width", "layers", "condition"), [(2, 6, 1, 3), (5, 4, 3, 8)])
@pytest.mark.parametrize("classes", [0, 4])
def test_number_of_parameters_and_shape(dim, width, layers, condition, classes):
    net = NoiseMLP(dim, width=width, layers=layers, condition=condition, classes=classes)
    wanted = 33 * condition + (condition + 1) * condition + (classes + 1) * condition * (classes > 0)
    wanted += (dim + 1) * width + (layers - 1) * (width + 1) * width + layers * condition * width
    wanted += (width + 1) * dim
    assert sum(p.numel() for p in net.parameters()) == wanted
    assert net(torch.zeros(7, dim), torch.ones(7)).shape == (7, dim)
    assert net(torch.zeros(0, dim), torch.ones(0)).shape == (0, dim)


def test_starts_at_zero():
    assert NoiseMLP(**TINY).double()(X, SIGMA, LABELS).abs().max() == 0
    assert network()(X, SIGMA, LABELS).abs().max() > 0.1


def test_seeds_of_weights():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    nets = [NoiseMLP(**TINY, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.nn.utils.parameters_to_vector(net.parameters()) for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_noise_and_labels_matter():
    net = network()
    one = net(X, torch.full((3,), 0.5).double(), LABELS)
    assert (one - net(X, SIGMA, LABELS)).abs().amax(1).min() > 1e-3
    for sigma in (0.5, torch.tensor(0.5).double(), torch.tensor([0.5]).double()):
        torch.testing.assert_close(net(X, sigma, LABELS), one, rtol=1e-5, atol=1e-5)
    found = [net(X, SIGMA, torch.full((3,), label)) for label in range(4)]
    for k in range(4):
        for j in range(k):
            assert (found[k] - found[j]).abs().amax(1).min() > 1e-4
    torch.testing.assert_close(net(X, SIGMA), found[3], rtol=1e-13, atol=1e-13)


def test_gradients():
    net = network(classes=1)
    x, sigma = X.clone().requires_grad_(), SIGMA.clone().requires_grad_()
    labels = torch.tensor([0, 1, 0])
    torch.autograd.gradcheck(lambda x, sigma: net(x, sigma, labels), (x, sigma))
    net(x, sigma, labels).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 1e-9, name


def test_compiled_whole():
    net = network()
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for labels in (None, LABELS):
        torch.testing.assert_close(compiled(X, SIGMA, labels), net(X, SIGMA, labels), rtol=1e-12, atol=1e-12)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dim=0), "dim must be a positive whole number, got 0"),
        (dict(width=2.5), "width must be a positive whole number, got 2.5"),
        (dict(layers=0), "layers must be a positive whole number, got 0"),
        (dict(condition=-1), "condition must be a positive whole number, got -1"),
        (dict(classes=-1), "classes must be a whole number of at least 0, got -1"),
    ],
)
def test_options_that_make_no_network(options, message):
    with pytest.raises(ValueError, match=message):
        NoiseMLP(**TINY | options)


def test_input_that_does_not_suit():
    net = network()
    with pytest.raises(ValueError, match=r"\(B, 2\) for this network, got \(3, 3\): "):
        net(torch.zeros(3, 3).double(), SIGMA)
    with pytest.raises(ValueError, match=r"got \(2,\)"):
        net(X[0], SIGMA)
    with pytest.raises(ValueError, match=r"noise levels must be .* \(3,\) for 3 samples, got \(2,\)"):
        net(X, SIGMA[:2])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\].* got 4"):
        net(X, SIGMA, LABELS + 1)
    with pytest.raises(ValueError, match="knows no classes"):
        network(classes=0)(X, SIGMA, LABELS)


def test_as_many_outputs_as_wanted():
    network = NoiseMLP(6, outputs=2, width=8, layers=1)
    assert network(torch.zeros(3, 6), torch.ones(3)).shape == (3, 2)
    with pytest.raises(ValueError, match="outputs must be a positive whole number, got 0"):
        NoiseMLP(6, outputs=0)


def test_a_network_for_pairs_sees_both_and_the_time():
    net = TranslationMLP(2, width=6, seed=1).double()
    x, x_T, log_time = X, X.flip(0) - 1, torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
    values = torch.cat([x, x_T, log_time[:, None]], 1).numpy()
    for layer in (one for one in net.body if isinstance(one, torch.nn.Linear)):
        values = values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        values = silu(values) if layer is not net.body[-1] else values
    np.testing.assert_allclose(net(x, x_T, log_time).detach().numpy(), values, rtol=1e-12)
    single = TranslationMLP(1, width=6).double()
    numbers = single(x[:, 0], x_T[:, 0], log_time)
    assert numbers.shape == (3,)
    assert torch.equal(numbers, single(x[:, :1], x_T[:, :1], log_time)[:, 0])
    for wrong, network in ((x[:, :1], net), (x[:, 0], net), (x, single)):
        with pytest.raises(ValueError, match="vectors must be of shape"):
            network(wrong, wrong, log_time)
