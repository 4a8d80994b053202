"""The recipe: settings in, a network, its history and an outcome out."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from loupe.training import Batches, DivergenceError, MovingAverage, Training, accuracy, cosine, fit, train

X = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))


def loss(net, batch, generator):
    x = batch[0] + 0.1 * torch.randn(batch[0].shape, generator=generator)
    return nn.functional.cross_entropy(net(x), batch[1])


def error(net):
    return {"error": 1 - accuracy(net, X, Y)}


def settings(**others):
    return Training(**({"steps": 40, "batch": 16, "evaluations": 8} | others))


def test_it_is_fit_with_a_moving_average_to_the_bit():
    ours = train(
        network(),
        loss,
        (X, Y),
        settings(ema=0.9, clip=0.5, schedule="cosine", warmup=4),
        seed=3,
        evaluate=error,
    )
    net = network()
    average = MovingAverage(net, 0.9)
    run = fit(net, loss, Batches(X, Y, size=16, seed=3), torch.optim.Adam(net.parameters(), lr=1e-3), steps=40, seed=3,
              schedule=cosine(40, warmup=4), clip=0.5, callbacks=[average])  # fmt: skip
    for one, other in zip(ours.network.parameters(), average.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert np.array_equal(ours.losses, run.losses.numpy())
    assert (ours.outcome, ours.step, ours.parameters) == ("finished", 40, 58)
    assert not ours.network.training


def test_the_history_is_aligned_and_true():
    norms, rates = [], []

    def watch(run):
        norms.append(float(run.gradient_norm))
        rates.append(run.optimizer.param_groups[0]["lr"])

    asked = settings(steps=43, clip=1e-3, schedule="linear", warmup=5, cooldown=0.5)
    history = train(network(), loss, (X, Y), asked, evaluate=error, callbacks=[watch]).history
    steps = history["step"]
    assert steps.tolist() == [5, 10, 15, 20, 25, 30, 35, 40, 43]
    assert np.allclose(history["gradient_norm"], np.array(norms)[steps - 1])
    assert min(norms) > 1e-3  # before it was clipped
    assert np.allclose(history["learning_rate"], np.array(rates)[steps - 1])
    assert np.allclose(history["learning_rate"][[0, 2]], 1e-3)
    assert np.isclose(history["learning_rate"][-1], 1e-3 * 1 / 21.5)
    assert (np.diff(history["seconds"]) > 0).all()
    assert set(history) == {"step", "loss", "gradient_norm", "learning_rate", "seconds", "error"}


@pytest.mark.parametrize("best", ["value", lambda row: row["value"]])
@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_state_is_returned_and_patience_ends_the_run(best, ema):
    values, states = iter([3, 2, 1, 5, 1, 4, 0, 0]), []

    def evaluate(net):
        states.append(net[0].weight.detach().clone())
        return {"value": next(values)}

    found = train(network(), loss, (X, Y), settings(patience=3, ema=ema), evaluate=evaluate, best=best)
    assert (found.outcome, found.step, len(states), len(found.losses)) == ("stopped early", 15, 6, 30)
    assert torch.equal(found.network[0].weight, states[2])


def test_a_killed_run_goes_on_to_the_same_end(tmp_path):
    asked = settings(ema=0.9, patience=8)
    whole = train(network(), loss, (X, Y), asked, evaluate=error, best="error", work=tmp_path / "whole")

    def stop(run):
        if run.step == 22:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            network(),
            loss,
            (X, Y),
            asked,
            evaluate=error,
            best="error",
            work=tmp_path / "cut",
            callbacks=[stop],
        )
    again = train(network(), loss, (X, Y), asked, evaluate=error, best="error", work=tmp_path / "cut")
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    # Takes no step.
    once_more = train(network(), loss, (X, Y), asked, evaluate=error, best="error", work=tmp_path / "cut")
    for name in set(whole.history) - {"seconds"}:
        assert np.array_equal(whole.history[name], once_more.history[name])
    rows = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert [row["step"] for row in rows if "error" in row] == whole.history["step"].tolist()


def test_divergence_is_an_outcome_with_a_name():
    def explosive(net, batch, generator):
        return -net(batch[0]).square().mean()

    wild = settings(learning_rate=100.0, optimizer="sgd", evaluations=0)
    with pytest.raises(DivergenceError, match="diverged at step"):
        train(network(), explosive, (X, Y), wild)
    found = train(network(), explosive, (X, Y), wild, may_diverge=True)
    assert found.outcome == "diverged"
    assert 0 < len(found.losses) == found.step < 40
    with pytest.raises(DivergenceError, match="evaluation is nan"):
        train(network(), loss, (X, Y), settings(), evaluate=lambda net: {"v": float("nan")}, best="v")


@pytest.mark.parametrize(
    ("asked", "words"),
    [({}, "8 evaluations: give"), ({"evaluations": 0, "patience": 2}, "patience of 2: say")],
)
def test_settings_without_what_they_need_are_refused(asked, words):
    with pytest.raises(ValueError, match=words):
        train(network(), loss, (X, Y), settings(**asked))


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_bf16_mixed_and_compiled_runs_come_near(compiled):
    asked = settings(precision="bf16-mixed", compile=compiled, ema=0.9)
    rough, exact = (train(network(), loss, (X, Y), one, evaluate=error) for one in (asked, settings(ema=0.9)))
    assert np.abs(rough.losses - exact.losses).max() < 0.05
    assert (rough.losses != exact.losses).any()
    assert rough.network[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.25, 1, 1, 1]),
        ("cosine", [0.25, 1, 0.5, 0.0]),
        ("linear", [0.25, 1, 0.5, 0.1]),
        ("halved", [0.25, 1, 0.5, 0.5]),
    ],
)
def test_schedules(schedule, factors):
    factor = Training(steps=20, warmup=4, schedule=schedule, cooldown=0.8).schedule_factor()
    at = {
        "constant": (0, 4, 10, 19),
        "cosine": (0, 4, 12, 20),
        "linear": (0, 4, 12, 18.4),
        "halved": (0, 4, 10, 19),
    }
    assert np.allclose([factor(step) for step in at[schedule]], factors)
