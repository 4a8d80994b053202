"""What the chapter trains: networks for charged particles, for people who run and walk, and for molecules."""

from dataclasses import dataclass, replace

import numpy as np
import torch

import loupe.data
from loupe.dynamics import (
    EGNN,
    EGNO,
    MessagePassing,
    RadialField,
    SequentialEGNN,
    charged_windows,
    molecule_windows,
    motion_windows,
    rollout,
    walk_starts,
)
from loupe.experiment import experiment
from loupe.training import Training, evaluating, train

SHOWN = 6  # test windows whose predictions are stored
EVALUATED = 200  # windows in one pass
REACH = 100.0  # of a rollout; the clamp of a layer is as long
END_ONLY = ("EGNN", "RF", "MPNN")
AGAINST = ("EGNO", "EGNN", "EGNN-R", "EGNN-S")
MOLECULE_COUNTS = {"valid": 2000, "test": 2000}


@dataclass(frozen=True)
class Plan:
    """What networks are built with, the times P that they predict, and how they are trained."""

    width: int
    layers: int
    slices: int
    modes: int
    training: Training
    convolve: tuple[str, ...] = ("invariants", "vectors")
    time_coord: str = "physical"


# --- charged particles --------------------------------------------------------------------------------------


@experiment
def charged_egno(config, *, seed, device, work):
    """EGNO for charged particles, at the times of its training and at twice as many."""
    return _charged(config, ("EGNO",), seed, device, work)


@experiment
def charged_egnn(config, *, seed, device, work):
    """What EGNO is compared with: EGNN, EGNN-R and EGNN-S."""
    return _charged(config, ("EGNN", "EGNN-R", "EGNN-S"), seed, device, work)


@experiment
def charged_others(config, *, seed, device, work):
    """A network without hidden features and one that is not equivariant; straight lines."""
    lines = _straight(_charged_data(config, config.systems), config.slices)
    return _charged(config, ("RF", "MPNN"), seed, device, work) | lines


@experiment(seeds="size_seeds")
def data_sizes(config, *, seed, device, work):
    """EGNO and EGNN from other numbers of systems."""
    found = {"sizes": np.array(config.sizes)}
    plan = _charged_plan(config, steps=config.size_steps)
    for count in config.sizes:
        data = _charged_data(config, count)
        for name in ("EGNO", "EGNN"):
            network, _ = _trained(name, data, plan, seed, device, work / f"{name} {count}")
            found[f"{name} {count} errors"], _ = _tested(name, network, data["test"], plan.slices, device)
    return found


@experiment(seeds="ablation_seeds")
def ablations(config, *, seed, device, work):
    """EGNO with other frequencies, other times, and without one or both of its convolutions."""
    data = _charged_data(config, config.systems)
    sizes = {"width": config.ablation_width, "layers": config.ablation_layers}
    plan = replace(_charged_plan(config, steps=config.ablation_steps), **sizes)
    P, modes, both = plan.slices, plan.modes, plan.convolve
    variants = {"full": {}}
    variants |= {f"{one} modes": {"modes": one} for one in range(1, P // 2 + 2) if one != modes}
    variants |= {f"only {one}": {"convolve": (one,)} for one in both} | {"no convolution": {"convolve": ()}}
    variants |= {f"{P} slices": {"slices": P, "modes": min(modes, P // 2 + 1)} for P in (2, 2 * P)}
    found = {"variants": np.array(list(variants))}
    for name, changes in variants.items():
        changed = replace(plan, **changes)
        network, _ = _trained("EGNO", data, changed, seed, device, work / name)
        found[f"{name} errors"], _ = _tested("EGNO", network, data["test"], changed.slices, device)
    return found


def _charged(config, names, seed, device, work):
    data = _charged_data(config, config.systems)
    return _compare(names, data, _charged_plan(config), seed, device, work)


def _charged_plan(config, **changes):
    training = config.training.model_copy(update=changes)
    return Plan(config.width, config.layers, config.slices, config.modes, training)


def _charged_data(config, count):
    """Windows with twice the times of training."""
    counts = {"train": count, "valid": config.valid_systems, "test": config.test_systems}
    return {
        split: charged_windows(split, number, slices=2 * config.slices) for split, number in counts.items()
    }


# --- people -------------------------------------------------------------------------------------------------


@experiment(seeds="motion_seeds")
def running(config, *, seed, device, work):
    """A person who runs, with the published split."""
    motion = loupe.data.load("cmu09_run")
    return _person(config, motion, motion.starts, seed, device, work)


@experiment(seeds="motion_seeds")
def walking(config, *, seed, device, work):
    """A person who walks, with a split of our own."""
    motion = loupe.data.load("cmu35_walk")
    return _person(config, motion, walk_starts(motion), seed, device, work)


def _person(config, motion, starts, seed, device, work):
    """Networks trained on times spread over the window; and EGNO on its last frames alone, as published."""
    P = config.slices
    plan = Plan(config.motion_width, config.motion_layers, P, config.modes, config.motion_training)
    spread = _motion_data(motion, starts, slices=2 * P)
    found = _compare(AGAINST, spread, plan, seed, device, work, upright=True) | _straight(spread, P)
    # Where all times are near the end, the published network is given the number of the slice.
    last, plan = _motion_data(motion, starts, slices=P, spread="last"), replace(plan, time_coord="index")
    network, curve = _trained("EGNO", last, plan, seed, device, work / "EGNO-L")
    found |= {f"EGNO-L {what}": values for what, values in curve.items()}
    found["EGNO-L errors"], _ = _tested("EGNO", network, last["test"], P, device)
    return found | {"bones": np.asarray(motion.bones), "windows": np.array([*map(len, spread.values())])}


def _motion_data(motion, starts, **grid):
    train = motion_windows(motion, starts["train"], limit=200, **grid)
    rest = {
        split: motion_windows(motion, starts[split], height=train.height, **grid)
        for split in ("valid", "test")
    }
    return {"train": train} | rest


# --- molecules ----------------------------------------------------------------------------------------------


@experiment(seeds="molecule_seeds")
def ethanol(config, *, seed, device, work):
    """The three heavy atoms of ethanol."""
    return _molecule(config, "ethanol", seed, device, work)


@experiment(seeds="aspirin_seeds")
def aspirin(config, *, seed, device, work):
    """The thirteen heavy atoms of aspirin."""
    return _molecule(config, "aspirin", seed, device, work)


def _molecule(config, name, seed, device, work):
    molecule, P = loupe.data.load(name), config.molecule_slices
    data = {
        split: molecule_windows(molecule, split, count=count, distance=config.molecule_frames, slices=P)
        for split, count in ({"train": config.molecule_windows} | MOLECULE_COUNTS).items()
    }
    plan = Plan(config.molecule_width, config.molecule_layers, P, config.modes, config.molecule_training)
    found = _compare(AGAINST, data, plan, seed, device, work) | _straight(data, P)
    bonds = data["test"].edges[:, data["test"].edge_values[0, :, 2] == 1]
    bonds = bonds[:, bonds[0] < bonds[1]].T.numpy()
    return found | {"bones": bonds, "windows": np.array([*map(len, data.values())])}


# --- training and prediction --------------------------------------------------------------------------------


def _compare(names, data, plan, seed, device, work, *, upright=False):
    """Each of these networks, trained: errors of test windows ``[S, P]``, predictions of a few, and their symmetry."""
    P, test = plan.slices, data["test"]
    some = test.chosen(slice(0, len(test), max(1, len(test) // SHOWN))).chosen(slice(0, SHOWN))
    found = {
        "start": some.positions.numpy(),
        "truth": some.targets.numpy(),
        "truth times": some.times.numpy(),
        "groups": (some.edge_values[:, : some.positions.shape[1] - 1, 0] < 0).numpy(),
    }
    for name in names:
        network, curve = _trained(name, data, plan, seed, device, work / name)
        found |= {f"{name} {what}": values for what, values in curve.items()}
        found[f"{name} errors"], predicted = _tested(name, network, test, P, device)
        found[f"{name} shown"] = _predicted(name, network, some, P, device).numpy()
        for turn, what in ((_any_turn, "turned"), (_upright_turn, "upright"))[: 1 + upright]:
            rotated, size = _rotated(name, network, test, predicted, turn(seed), P, device)
            found[f"{name} {what} errors"], found[f"{name} {what} deviation"] = rotated, size
        if name == "EGNO" and len(test.times) == 2 * P and _even(test):
            found |= _resolution(network, test, some, P, device)
    return found


def _even(windows):
    """Whether times are spread evenly, as EGNO takes them to be."""
    P = len(windows.times)
    return torch.allclose(windows.times, torch.arange(1, P + 1, dtype=torch.float64) / P)


def _resolution(network, test, some, P, device):
    """EG7: the same weights at twice the times, given the time or the number of the slice."""
    found = {}
    for coordinate in ("index", "physical"):
        network.time_coord = coordinate
        found[f"EGNO {coordinate} fine errors"], _ = _tested("EGNO", network, test, 2 * P, device)
    return found | {"EGNO fine shown": _predicted("EGNO", network, some, 2 * P, device).numpy()}


def _trained(name, data, plan, seed, device, work):
    """A network at its best by the end of the window on the validation part, and the course of its training."""
    settings, P = plan.training, plan.slices
    samples, valid = (_view(name, data[split], P) for split in ("train", "valid"))
    if name == "EGNN-R":
        samples = samples.steps()
    graph = samples.graph(min(settings.batch, len(samples))).to(device)

    def loss(network, batch, generator):
        x, v, targets, *known = batch
        x, v = x.flatten(0, 1), v.flatten(0, 1)
        features, edge_features = samples.features(x, v, graph, *known)
        path = network(x, v, features, graph, edge_features)
        return (path - targets.transpose(0, 1).flatten(1, 2)).square().mean()

    def at_the_end(network):
        return {"valid": _tested(name, network, valid, P, device)[0][:, -1].mean()}

    run = train(
        _built(name, samples, plan, seed), loss, samples.tensors(), settings, seed=seed, device=device, work=work,
        evaluate=at_the_end, best="valid",
    )  # fmt: skip
    curve = {"steps": run.history["step"], "valid": run.history["valid"], "clock": run.history["seconds"]}
    losses = run.losses[:: max(1, settings.steps // 200)]
    return run.network, curve | {"losses": losses, "parameters": run.parameters}


def _built(name, windows, plan, seed):
    F, E = windows.node_features, windows.edge_features
    sizes = {"width": plan.width, "layers": plan.layers, "seed": seed}
    if name == "EGNN-S":
        return SequentialEGNN(F, E, **sizes, slices=plan.slices)
    if name == "RF":
        return RadialField(E, **sizes)
    if name != "EGNO":
        return {"EGNN": EGNN, "EGNN-R": EGNN, "MPNN": MessagePassing}[name](F, E, **sizes)
    options = {what: getattr(plan, what) for what in ("slices", "modes", "convolve", "time_coord")}
    return EGNO(F, E, **sizes, **options)


def _view(name, windows, P):
    """Windows with the times that a network of this name predicts: P of them, or the end only."""
    return windows.thinned(1 if name in END_ONLY else P)


def _tested(name, network, windows, P, device):
    """Errors ``[S, P]`` of these windows, and predictions."""
    predicted = _predicted(name, network, windows, P, device)
    return _errors(predicted, _view(name, windows, P)), predicted


def _predicted(name, network, windows, P, device):
    """Positions at P times, ``[S, P, N, 3]``; of networks that know the end only at one."""
    found = []
    with evaluating(network):
        for first in range(0, len(windows), EVALUATED):
            part = windows.chosen(slice(first, first + EVALUATED))
            x, v, _, *known = (each.to(device) for each in part.tensors())
            B, N = x.shape[:2]
            graph = part.graph(B).to(device)

            def features_of(x, v, part=part, graph=graph, known=known):
                return part.features(x, v, graph, *known)

            x, v = x.flatten(0, 1), v.flatten(0, 1)
            if name == "EGNN-R":
                duration = windows.duration / P
                path = rollout(network, x, v, P, features_of, graph, duration=duration, reach=REACH)
            else:
                features, edge_features = features_of(x, v)
                options = {"slices": P} if name == "EGNO" else {}
                path = network(x, v, features, graph, edge_features, **options)
            found.append(path.view(-1, B, N, 3).transpose(0, 1).cpu())
    return torch.cat(found)


def _errors(predicted, windows):
    """Mean squared error of each window at each time, over points and coordinates: float64 ``[S, P]``."""
    return (predicted.double() - windows.targets).square().mean((2, 3)).numpy()


def _straight(data, P):
    """Straight lines, one factor for each time fitted to the training part; and standing still."""
    train, test = (data[split].thinned(P) for split in ("train", "test"))
    way, v = train.targets - train.positions.unsqueeze(1), train.velocities.unsqueeze(1)
    factors = (way * v).sum((0, 2, 3)) / v.square().sum((0, 2, 3))
    line = test.positions.unsqueeze(1) + factors.view(-1, 1, 1) * test.velocities.unsqueeze(1)
    still = test.positions.unsqueeze(1).expand_as(test.targets)
    errors = {f"{name} errors": _errors(path, test) for name, path in (("Linear", line), ("still", still))}
    return errors | {"Linear factors": factors.numpy()}


def _any_turn(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]


def _upright_turn(seed):
    """About the second axis, which points up."""
    angle = torch.rand((), generator=torch.Generator().manual_seed(seed)) * torch.pi
    turn = torch.eye(3)
    turn[0, 0] = turn[2, 2] = angle.cos()
    turn[0, 2], turn[2, 0] = angle.sin(), -angle.sin()
    return turn


def _rotated(name, network, windows, predicted, turn, P, device):
    """Errors where all is turned, and the largest deviation from the turned prediction over its extent."""
    windows = _view(name, windows, P)
    turned = {part: getattr(windows, part) @ turn.T for part in ("positions", "velocities", "targets")}
    errors, there = _tested(name, network, replace(windows, **turned), P, device)
    extent = (predicted - windows.positions.mean(1)[:, None, None]).abs().max()
    return errors, float((there - predicted @ turn.T).abs().max() / extent)
