"""The moving average that forgets its first steps."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from loupe.training import MovingAverage, fit


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_first_update_keeps_two_elevenths_and_late_ones_the_decay():
    first, later = network(0), network(1)
    average = MovingAverage(first, 0.9)
    start = first[0].weight.detach().clone()
    average(SimpleNamespace(network=later))
    torch.testing.assert_close(average.network[0].weight, start * 2 / 11 + later[0].weight * 9 / 11)
    average.updates = 10_000
    before = average.network[0].weight.clone()
    average(SimpleNamespace(network=later))
    torch.testing.assert_close(average.network[0].weight, 0.9 * before + 0.1 * later[0].weight)


def test_it_is_a_copy_without_gradients_in_evaluation_mode():
    net = network()
    average = MovingAverage(net, 0.5)
    assert not average.network.training
    assert net.training
    assert not any(each.requires_grad for each in average.network.parameters())
    with torch.no_grad():
        net[0].weight.fill_(7)
        net[1].running_mean.fill_(3)
    assert not (average.network[0].weight == 7).any()
    average(SimpleNamespace(network=net))
    assert (average.network[1].running_mean == 3).all()


def test_it_is_saved_with_a_run_and_goes_on(tmp_path):
    def run(steps, checkpoint, net):
        average = MovingAverage(net, 0.9)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = lambda model, batch, generator: model(batch[0]).square().mean()  # noqa: E731
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
        fit(
            net,
            loss,
            lambda step, part, parts: [x],
            optimiser,
            steps=steps,
            hooks=[average],
            checkpoint=checkpoint,
        )
        return average

    whole = run(6, None, copy.deepcopy(network()))
    run(3, tmp_path / "run.pt", copy.deepcopy(network()))
    resumed = run(6, tmp_path / "run.pt", copy.deepcopy(network()))
    assert resumed.updates == whole.updates == 6
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_average_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
        MovingAverage(network(), decay)
