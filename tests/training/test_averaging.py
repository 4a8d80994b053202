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
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = lambda model, batch, generator: model(batch[0]).square().mean()  # noqa: E731
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
        fit(
            net,
            loss,
            lambda step, part, parts: [x],
            optimizer,
            steps=steps,
            callbacks=[average],
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


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "bf16-mixed"])
def test_averages_of_any_precision_stay_wide(precision):
    """In half precision the 1/1000 of a step that an average takes would be rounded away."""
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    average = MovingAverage(net, 0.999)
    average.updates = 100_000  # past its beginning, where it takes more
    start = average.network.weight.clone()

    def loss(model, batch, generator):
        return model(batch[0].to(next(model.parameters()).dtype)).float().square().mean()

    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    run = fit(
        net, loss, lambda *_: [x], optimizer, steps=5, ema=0.999, precision=precision, callbacks=[average]
    )
    wide = torch.float64 if precision == "64-true" else torch.float32
    for one in (*average.network.parameters(), *run.average.parameters()):
        assert one.dtype == wide
        assert one.isfinite().all()
    assert not torch.equal(average.network.weight.double(), start.double())
    assert average.network(x.to(wide)).isfinite().all()
