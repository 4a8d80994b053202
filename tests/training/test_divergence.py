"""A run whose numbers are no numbers stops, says where, and keeps its last good checkpoint."""

import copy
import signal

import pytest
import torch

from loupe.training import Batches, DivergenceError, MovingAverage, TrajectoryRecorder, fit

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
DATA = Batches(X, X.sum(1, keepdim=True), size=8)
BAD = (float("nan"), float("inf"), -float("inf"))


def square(model, batch, generator):
    return (model(batch[0]) - batch[1]).square().mean()


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


class BadLoss:
    """A loss that adds a number, or a gradient, that is not finite at one step."""

    def __init__(self, at, value, kind):
        self.at, self.value, self.kind, self.calls = at, value, kind, 0

    def __call__(self, model, batch, generator):
        self.calls += 1
        loss = square(model, batch, generator)
        if self.calls - 1 != self.at:
            return loss
        if self.kind == "loss":
            return loss + self.value
        weight = model.get_parameter("0.weight") if hasattr(model, "get_parameter") else model[0].weight
        weight.register_hook(lambda gradient: gradient + self.value)
        return loss


def run(loss=square, steps=40, optimizer=torch.optim.SGD, rate=0.01, net=None, **settings):
    net = network() if net is None else net
    return fit(net, loss, DATA, optimizer(net.parameters(), lr=rate), steps=steps, **settings)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip": 1.0},
        {"ema": 0.9},
        {"optimizer": torch.optim.Adam, "clip": 1.0},
        {"precision": "bf16-mixed"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_bad_step_stops_the_run_and_is_never_saved(tmp_path, value, kind, settings):
    file = tmp_path / "a.pt"
    with pytest.raises(
        DivergenceError, match=r"training diverged (at|by) step 14, counted from 0: .*(nan|inf)"
    ) as stop:
        run(BadLoss(14, value, kind), checkpoint=file, save_every=10, **settings)
    assert f"{file} keeps the state after 10 steps; lower the learning rate" in str(stop.value)
    state = torch.load(file, weights_only=True)
    assert state["step"] == 10
    assert all(torch.isfinite(one).all() for one in state["parts"][0].values())
    again = run(checkpoint=file, **settings)  # what was kept is sound
    assert again.losses.isfinite().all()


@pytest.mark.parametrize("factor", [float("inf"), float("nan"), 1e30])
def test_a_learning_rate_that_breaks_the_network(factor):
    with pytest.raises(DivergenceError, match=r"step 1[45], .*learning rate"):
        run(schedule=lambda step: factor if step == 14 else 1.0)


def test_parts_of_a_batch_count():
    with pytest.raises(DivergenceError, match="at step 7, counted from 0: the loss is nan"):
        run(BadLoss(2 * 7 + 1, float("nan"), "loss"), accumulate=2)


@pytest.mark.parametrize("steps", [1, 15])
def test_the_last_step_is_looked_at_before_it_is_saved(tmp_path, steps):
    file = tmp_path / "a.pt"
    with pytest.raises(DivergenceError, match=f"step {steps - 1}"):
        run(BadLoss(steps - 1, float("nan"), "gradient"), steps=steps, checkpoint=file)
    assert not file.exists()


def test_hooks_never_see_a_bad_step():
    net, seen = network(), []
    recorder, average = TrajectoryRecorder(net, window=5), MovingAverage(net, 0.5)
    with pytest.raises(DivergenceError):
        run(
            BadLoss(9, float("nan"), "gradient"),
            net=net,
            callbacks=[recorder, average, lambda run: seen.append(run.step)],
        )
    assert seen == list(range(1, 10))
    assert torch.isfinite(torch.from_numpy(recorder.iterates())).all()
    assert all(torch.isfinite(one).all() for one in average.network.parameters())


def test_what_a_hook_breaks_is_not_saved_at_a_signal(tmp_path):
    file = tmp_path / "a.pt"

    def break_it(run):
        if run.step == 12:
            run.network[0].weight.data[0, 0] = torch.nan
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(DivergenceError, match=r"parameter 0\.weight holds nan"):
        run(callbacks=[break_it], checkpoint=file, save_every=10)
    assert torch.load(file, weights_only=True)["step"] == 10


def test_large_numbers_are_no_fault():
    net = network()
    with torch.no_grad():
        net[0].bias.fill_(1e30)
        net[2].weight.zero_()
    assert run(net=net, steps=3, rate=0.0).losses.isfinite().all()


def test_a_good_run_is_the_same_to_the_bit():
    """As a loop written out, with clipping and an average."""
    ours, by_hand = network(), network()
    done = run(net=ours, steps=20, clip=0.1, ema=0.9)
    optimizer, average = torch.optim.SGD(by_hand.parameters(), lr=0.01), copy.deepcopy(by_hand)
    for step in range(20):
        optimizer.zero_grad()
        square(by_hand, DATA(step), None).backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1)
        optimizer.step()
        with torch.no_grad():
            for kept, latest in zip(average.parameters(), by_hand.parameters(), strict=True):
                kept.lerp_(latest, 1 - min(0.9, (2 + step) / (11 + step)))
    for one, two in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(done.average.parameters(), average.parameters(), strict=True):
        assert torch.equal(one, two)
