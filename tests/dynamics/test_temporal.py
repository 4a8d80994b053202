"""Along time: the embedding, and convolutions against Fourier sums and sums over time (EG2)."""

import math

import numpy as np
import pytest
import torch
from layers import array
from small_networks import GRAPHS, embedding_by_definition, given, network, normal, spectral_by_definition

from loupe.dynamics.neural_operator import TemporalConvolution, time_embedding

LENGTHS = [(1, 1), (2, 1), (2, 2), (3, 2), (4, 3), (5, 2), (5, 3), (8, 2), (16, 3)]


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
        monkeypatch.setattr(TemporalConvolution, name, lambda self, z, *_, name=name: used.append(name) or z)
    for P, modes in ((16, 3), (17, 3), (16, 4), (5, 2)):
        TemporalConvolution(2, modes)(torch.zeros(P, 1, 2))
    assert used == ["by_matrices", "by_fft", "by_fft", "by_matrices"]


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


def test_matrices_of_half_precision():
    module, z = convolution(4, 2).float(), normal(3, 5, 6, 4)
    wanted = module(z.float())
    for transform in (module.by_fft, module.by_matrices):
        found = transform(z.bfloat16())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), module.by_fft(z.bfloat16().float()), rtol=1e-2, atol=1e-2)
    assert (module(z.bfloat16()).float() - wanted).abs().max() < 0.05 * wanted.abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(times=[0.5, 0.5]), r"times must rise within \(0, 1\], got 0.5 after 0.5: sort them"),
        (dict(times=[0.5, 0.4]), r"times must rise .* got 0.4 after 0.5"),
        (dict(times=[0.0, 0.4]), r"times must rise .* got 0 after 0"),
        (dict(times=[0.5, 1.1]), r"times must rise .* got 1.1 after 0.5.* divide by the window"),
        (dict(times=[math.nan, 1]), r"times must rise .* got nan"),
        (dict(times=[]), r"at least one fraction of the window"),
        (dict(times=[[0.5]]), r"at least one fraction .* got \[\[0.5\]\]"),
        (dict(times=0.5), r"at least one fraction .* got 0.5"),
        (dict(slices=0), r"slices must be a positive whole number, got 0"),
        (dict(slices=1), r"modes=2 are more than the frequencies of 1 slices"),
    ],
    ids=str,
)
def test_times_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        network()(*given(GRAPHS["complete"]), **options)
