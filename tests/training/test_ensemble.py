"""Networks trained at once: each member goes the way it goes alone, and a stopped one stays where it is."""

import signal

import pytest
import torch
from torch.nn.functional import cross_entropy

from loupe.networks import fully_connected
from loupe.training import Batches, DivergenceError, Ensemble, EnsembleBatches, EnsembleSGD, fit, staircase
from loupe.training.ensemble import EnsembleLoss
from tests.training import runs

RATES = (0.3, 0.1, 0.03)
STEPS = 25


def multilayer():
    return fully_connected([64, 16, 8, 3], bias=True)


def convolutional():
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 4, kernel_size=3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        *fully_connected([36, 3], bias=True),
    )


def seeded(make, seed, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(dtype)


def batches(seed, dtype=torch.float32, size=16):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(101, 64, generator=generator), torch.randint(3, (101,), generator=generator)
    return Batches(x.to(dtype), y, size=size, seed=seed)


def alone(make, member, dtype=torch.float32, steps=STEPS, **settings):
    """A member's own network after a run of its own, and its losses."""
    network = seeded(make, member, dtype)
    run = fit(
        network,
        lambda model, batch, generator: cross_entropy(model(batch[0]), batch[1]),
        batches(member, dtype),
        torch.optim.SGD(network.parameters(), lr=RATES[member]),
        steps=steps,
        **settings,
    )
    return network, run.losses


def together(make, dtype=torch.float32, steps=STEPS, hooks=(), **settings):
    """All members in one run; a hook is given (run, loss)."""
    ensemble = Ensemble([seeded(make, member, dtype) for member in range(len(RATES))])
    optimiser, loss = EnsembleSGD(ensemble, RATES), EnsembleLoss(cross_entropy)
    return fit(
        ensemble,
        loss,
        EnsembleBatches([batches(member, dtype) for member in range(len(RATES))]),
        optimiser,
        steps=steps,
        hooks=[lambda run, hook=hook: hook(run, loss) for hook in hooks],
        **settings,
    )


def stop(member, after):
    """A hook that stops one member after so many steps."""

    def hook(run, loss):
        if run.step == after:
            run.optimiser.active[member] = False

    return hook


def assert_member(run, index, network, **tolerance):
    for name, value in run.network.member(index).items():
        torch.testing.assert_close(value, network.get_parameter(name).detach(), **tolerance)


@pytest.mark.parametrize("make", [multilayer, convolutional])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, {"rtol": 0, "atol": 1e-13}), (torch.float32, {"rtol": 1e-3, "atol": 1e-5})],
)
def test_members_go_the_way_they_go_alone(make, dtype, tolerance):
    own = []
    run = together(make, dtype, schedule=staircase(10),
                   hooks=[lambda run, loss: own.append(loss.values)])  # fmt: skip
    losses = []
    for member in range(len(RATES)):
        network, curve = alone(make, member, dtype, schedule=staircase(10))
        assert_member(run, member, network, **tolerance)
        losses.append(curve)
    torch.testing.assert_close(torch.stack(own, dim=1).float(), torch.stack(losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.losses, torch.stack(losses).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_accumulated_parts_make_the_same_batches():
    whole, parts = (together(multilayer, torch.float64, accumulate=k) for k in (1, 4))
    for one, two in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-13)


def test_a_member_stops_at_its_own_step_and_the_others_go_on():
    run = together(multilayer, torch.float64, hooks=[stop(1, after=9)])
    for member, steps in enumerate((STEPS, 9, STEPS)):
        network, _ = alone(multilayer, member, torch.float64, steps=steps)
        assert_member(run, member, network, rtol=0, atol=1e-13)


def test_a_stopped_member_does_not_move_by_a_bit():
    seen = []

    def see(run, loss):
        seen.append({name: value.clone() for name, value in run.network.member(1).items()})

    run = together(multilayer, hooks=[stop(1, after=9), see])
    for weights in seen[9:]:
        assert all(torch.equal(weights[name], value) for name, value in seen[8].items())
    assert not torch.equal(seen[8]["1.weight"], seen[7]["1.weight"])
    assert run.optimiser.active.tolist() == [True, False, True]


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_stopped_member_stays_whatever_its_gradient(poison):
    ensemble = Ensemble([seeded(multilayer, member) for member in range(3)])
    optimiser = EnsembleSGD(ensemble, RATES)
    optimiser.active[1] = False
    before = [one.detach().clone() for one in ensemble.parameters()]
    for parameter in ensemble.parameters():
        parameter.grad = torch.ones_like(parameter)
        parameter.grad[1] = poison
    optimiser.step()
    for old, new in zip(before, ensemble.parameters(), strict=True):
        assert torch.equal(old[1], new[1])
        for member in (0, 2):  # a gradient of 1 of the mean is one of 3 of the member's own loss
            torch.testing.assert_close(old[member] - new[member], torch.full_like(old[0], 3 * RATES[member]))


def test_a_member_that_explodes_stops_the_run_and_is_named_and_harmed_no_other():
    with pytest.raises(DivergenceError, match=r"at step 5.*the loss is nan \(member 1\)") as stop:
        together(multilayer, torch.float64, hooks=[explode])
    assert stop.value.run.step == 5
    for member in (0, 2):
        network, _ = alone(multilayer, member, torch.float64, steps=6)
        assert_member(stop.value.run, member, network, rtol=0, atol=1e-13)


def explode(run, loss):
    if run.step == 5:
        for value in run.network.member(1).values():  # views: the ensemble itself is changed
            value.fill_(float("nan"))


@pytest.mark.parametrize("cut", [4, 9, 17])
def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path, cut):
    file, stop_one = tmp_path / "run.pt", stop(1, after=9)
    whole = together(multilayer, hooks=[stop_one])
    with pytest.raises(KeyboardInterrupt):
        together(multilayer, hooks=[stop_one, lambda run, loss: interrupt(run.step == cut)], checkpoint=file)
    assert torch.load(file, weights_only=True)["step"] == cut
    rest = together(multilayer, hooks=[stop_one], checkpoint=file)
    assert torch.equal(rest.losses, whole.losses)
    assert rest.optimiser.active.tolist() == [True, False, True]
    for one, two in zip(whole.network.parameters(), rest.network.parameters(), strict=True):
        assert torch.equal(one, two)


def interrupt(now):
    if now:
        signal.raise_signal(signal.SIGINT)


def test_a_member_is_a_view_that_its_own_network_loads():
    networks = [seeded(multilayer, member) for member in range(3)]
    ensemble, other = Ensemble(networks), seeded(multilayer, 9)
    inputs = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0))
    outputs = ensemble(inputs)
    for index, network in enumerate(networks):
        other.load_state_dict(ensemble.member(index))
        assert torch.equal(other[1].weight, network[1].weight)
        torch.testing.assert_close(outputs[index], other(inputs[index]))
    assert ensemble.member(2)["1.weight"].data_ptr() == ensemble._stacked[0][2].data_ptr()


def test_dropout_draws_for_each_member_and_rests_in_evaluation():
    ensemble = Ensemble([torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))] * 2)
    inputs = torch.randn(1, 50, 4).expand(2, 50, 4)
    one, two = ensemble(inputs)
    assert not torch.equal(one == 0, two == 0)
    one, two = ensemble.eval()(inputs)
    torch.testing.assert_close(one, two)
    assert not (one == 0).any()


def test_a_frozen_layer_stays():
    networks = [seeded(multilayer, member) for member in range(3)]
    for network in networks:
        network[1].requires_grad_(False)
    ensemble = Ensemble(networks)
    optimiser = EnsembleSGD(ensemble, RATES)
    ensemble(torch.ones(3, 2, 64)).mean().backward()
    optimiser.step()
    for index, network in enumerate(networks):
        assert torch.equal(ensemble.member(index)["1.weight"], network[1].weight)
        assert not torch.equal(ensemble.member(index)["3.bias"], network[3].bias)


def test_refusals():
    networks = [multilayer() for _ in range(3)]
    with pytest.raises(ValueError, match="needs networks of one shape, got 0 networks of 0 shapes"):
        Ensemble([])
    with pytest.raises(ValueError, match="needs networks of one shape, got 2 networks of 2 shapes"):
        Ensemble([torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)])
    with pytest.raises(ValueError, match=r"cannot hold networks with buffers, got 1[.]running_mean"):
        Ensemble([runs.network()])
    with pytest.raises(ValueError, match="3 members need as many learning rates, got 2"):
        EnsembleSGD(Ensemble(networks), [0.1, 0.2])
    with pytest.raises(ValueError, match="3 members need as many batches of inputs, got 2"):
        Ensemble(networks)(torch.zeros(2, 5, 64))
