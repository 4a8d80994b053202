"""Initial states: their distributions, the walls of the box, the published order of draws, and seeds."""

import math

import numpy as np
import pytest
import torch

from loupe.dynamics import draw_charged, draw_gravity, draw_springs, simulators


def test_charged_states():
    positions, velocities, charges = draw_charged(20_000, seed=1)
    assert positions.shape == velocities.shape == (20_000, 5, 3)
    assert charges.shape == (20_000, 5, 1)
    assert positions.dtype == velocities.dtype == charges.dtype == torch.float64
    assert positions.std().item() == pytest.approx(1, abs=0.01)
    assert positions.mean().item() == pytest.approx(0, abs=0.01)
    assert (positions**4).mean().item() == pytest.approx(3, abs=0.1)
    torch.testing.assert_close(velocities.norm(dim=2), torch.full((20_000, 5), 0.5).double())
    assert velocities.mean(dim=(0, 1)).abs().max() < 0.005
    assert (velocities**2).mean(dim=(0, 1)).tolist() == pytest.approx([1 / 12] * 3, abs=0.002)
    assert set(charges.unique().tolist()) == {-1, 1}
    assert charges.mean().item() == pytest.approx(0, abs=0.015)
    everything = torch.cat([positions, velocities, charges], dim=2).flatten(1)
    assert (everything.T.corrcoef() - torch.eye(35)).abs().max() < 0.04


def test_reflection_at_the_walls():
    positions, velocities = simulators._into_the_box(
        np.array([[6.0, -5.5, 4.9], [5.0, -5.0, 0.0]]), np.array([[3.0, -4.0, 0.0], [1.0, 1.0, 1.0]])
    )
    torch.testing.assert_close(positions, torch.tensor([[4.0, -4.5, 4.9], [5, -5, 0]]).double())
    third = 0.5 / math.sqrt(3)
    torch.testing.assert_close(velocities, torch.tensor([[-0.3, 0.4, 0], [third] * 3]).double())
    _, velocities = simulators._into_the_box(np.array([[6.0, -5.5, 0.0]]), np.array([[-3.0, 4.0, 0.0]]))
    torch.testing.assert_close(velocities, torch.tensor([[-0.3, 0.4, 0]]).double())


@pytest.mark.parametrize("particles", [3, 5, 40])
def test_the_published_order_of_draws(particles):
    found = draw_charged(7, particles, seed=43, legacy_rng=True)
    stream = np.random.RandomState(43)
    for system in range(7):
        charges = stream.choice(np.array([-1.0, 0.0, 1.0]), size=(particles, 1), p=[0.5, 0, 0.5])
        x = stream.randn(3, particles) * (particles / 5) ** (1 / 3)
        v = stream.randn(3, particles)
        v = v * 0.5 / np.sqrt((v**2).sum(axis=0)).reshape(1, -1)
        for axis in range(3):
            for i in range(particles):
                if abs(x[axis, i]) > 5:
                    v[axis, i] = -np.sign(x[axis, i]) * abs(v[axis, i])
                    x[axis, i] = np.sign(x[axis, i]) * 10 - x[axis, i]
        wanted = x.T, v.T, charges
        assert all(np.array_equal(each[system].numpy(), its) for each, its in zip(found, wanted, strict=True))
    assert all(each.is_contiguous() for each in found)


def test_spring_states():
    positions, velocities, couplings = draw_springs(10_000, seed=4)
    assert positions.std().item() == pytest.approx(0.5, abs=0.005)
    torch.testing.assert_close(velocities.norm(dim=2), torch.full((10_000, 5), 0.5).double())
    assert couplings.shape == (10_000, 5, 5)
    assert torch.equal(couplings, couplings.mT)
    assert not couplings.diagonal(dim1=1, dim2=2).any()
    assert set(couplings.unique().tolist()) == {0, 1}
    off = couplings.mean(0)[~torch.eye(5, dtype=bool)]
    assert (off - 0.5).abs().max() < 0.025


def test_gravity_states():
    positions, velocities = draw_gravity(5000, seed=5)
    assert positions.shape == velocities.shape == (5000, 10, 3)
    assert positions.std().item() == pytest.approx(1, abs=0.01)
    assert velocities.std().item() == pytest.approx(math.sqrt(0.9), abs=0.01)
    assert velocities.sum(dim=1).abs().max() < 1e-13


@pytest.mark.parametrize("draw", [draw_charged, draw_springs, draw_gravity])
def test_seeds(draw):
    first, again, other = draw(30, seed=1), draw(30, seed=1), draw(30, seed=2)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))
    shorter = draw(11, seed=1)
    assert all(torch.equal(long[:11], short) for long, short in zip(first, shorter, strict=True))
    generator = np.random.default_rng(1)
    assert torch.equal(draw(30, seed=generator)[0], first[0])
    assert not torch.equal(draw(30, seed=generator)[0], first[0])
    assert all(each.is_contiguous() and each.dtype == torch.float64 for each in first)
    if draw is draw_charged:
        assert torch.equal(draw(30, seed=1, legacy_rng=True)[0][:11], draw(11, seed=1, legacy_rng=True)[0])
