"""The recorder keeps the last iterates bit for bit (T11 of the chapter ph_dimension)."""

import numpy as np
import pytest
import torch
from torch import nn

from loupe.networks import fully_connected
from loupe.training import TrajectoryRecorder, flat_parameters, losses_at, set_parameters


def train(network, steps, after_step):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    inputs = torch.randn(steps, 4, 6, generator=torch.Generator().manual_seed(1))
    for batch in inputs:
        optimizer.zero_grad()
        network(batch).square().mean().backward()
        optimizer.step()
        after_step()


@pytest.mark.parametrize("steps", [5, 7, 10, 13])
def test_last_iterates_bit_for_bit(steps):
    torch.manual_seed(0)
    network = fully_connected([6, 8, 3])
    recorder, every = TrajectoryRecorder(network, window=5), []
    train(network, steps, lambda: (recorder(), every.append(flat_parameters(network).detach().clone())))
    expected = torch.stack(every[-5:]).numpy()
    assert np.array_equal(recorder.iterates(), expected)
    assert len(np.unique(expected, axis=0)) == 5


def test_order_is_that_of_the_network_and_buffers_stay_out():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    flat = flat_parameters(network)
    assert flat.numel() == 2 * 3 + 3 + 3 + 3
    assert torch.equal(flat[:6], network[0].weight.reshape(-1))
    assert torch.equal(flat[-3:], network[1].bias)
    set_parameters(network, (2 * flat).half())
    torch.testing.assert_close(flat_parameters(network), 2 * flat, rtol=1e-3, atol=1e-3)
    assert flat_parameters(network).dtype == torch.float32
    assert all(one.requires_grad for one in network.parameters())


def test_too_few_steps_say_how_many_there_were():
    recorder = TrajectoryRecorder(fully_connected([2, 2]), window=4)
    recorder()
    with pytest.raises(ValueError, match="4 iterates are wanted but the run had 1 steps"):
        recorder.iterates()


def test_window_must_hold_something():
    with pytest.raises(ValueError, match="at least 1 iterate, got 0"):
        TrajectoryRecorder(fully_connected([2, 2]), window=0)


def test_losses_at_iterates_are_those_of_the_network_then_and_its_weights_come_back():
    torch.manual_seed(0)
    network = fully_connected([6, 8, 3])
    x, y = torch.randn(10, 6), torch.randint(3, (10,))
    recorder, every = TrajectoryRecorder(network, window=4), []

    def after_step():
        recorder()
        with torch.no_grad():
            every.append(nn.functional.cross_entropy(network(x).double(), y, reduction="none").numpy())

    train(network, 6, after_step)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    found = losses_at(network, (recorder.rows[k] for k in recorder.order), x, y)
    assert np.array_equal(found, every[-4:])
    assert not flat_parameters(network).any()
