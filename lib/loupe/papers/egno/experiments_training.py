"""What the chapter trains: networks for charged particles, for people who run and walk, and for molecules."""

import copy
import time
from dataclasses import replace

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
from loupe.training import Batches, cosine, evaluating, fit, step_decay

SHOWN = 6  # test windows whose predictions are stored
EVALUATED = 200  # windows in one pass
REACH = 100.0  # of a rollout; the clamp of a layer is as long
END_ONLY = ("EGNN", "RF", "MPNN")
SETTINGS = (
    "width", "layers", "modes", "slices", "batch", "rate", "decay", "steps", "schedule", "evaluations", "patience",
)  # fmt: skip
MOLECULE_PARTS = {"valid": 2000, "test": 2000}


# --- charged particles --------------------------------------------------------------------------------------


@experiment
def charged_egno(config, *, seed, device, work):
    """EGNO for charged particles, asked for the times of its training and for twice as many."""
    return _charged(config, ("EGNO",), seed, device, work)


@experiment
def charged_egnn(config, *, seed, device, work):
    """What EGNO is compared with: EGNN, EGNN-R and EGNN-S."""
    return _charged(config, ("EGNN", "EGNN-R", "EGNN-S"), seed, device, work)


@experiment
def charged_others(config, *, seed, device, work):
    """A network without hidden features and one that is not equivariant; straight lines."""
    data = _charged_data(config, config.systems)
    return _compare(("RF", "MPNN"), data, _settings(config), seed, device, work) | _straight(
        data, config.slices
    )


@experiment(seeds="size_seeds")
def data_sizes(config, *, seed, device, work):
    """EGNO and EGNN from other numbers of systems."""
    found = {"sizes": np.array(config.sizes)}
    settings = _settings(config, steps=config.size_steps)
    for count in config.sizes:
        data = _charged_data(config, count)
        for name in ("EGNO", "EGNN"):
            network, _ = _trained(name, data, settings, seed, device, work / f"{name} {count}")
            test = data["test"].thinned(1 if name in END_ONLY else config.slices)
            forecast = _forecast(name, network, test, config.slices, device)
            found[f"{name} {count} errors"] = _errors(forecast, test)
    return found


@experiment(seeds="ablation_seeds")
def ablations(config, *, seed, device, work):
    """EGNO with other frequencies, other times, and without one or both of its convolutions."""
    data = _charged_data(config, config.systems)
    sizes = {"width": config.ablation_width, "layers": config.ablation_layers, "steps": config.ablation_steps}
    usual = _settings(config, **sizes)
    P, modes = config.slices, config.modes
    both = ("invariants", "vectors")
    variants = {"full": (P, modes, both)}
    variants |= {f"{one} modes": (P, one, both) for one in range(1, P // 2 + 2) if one != modes}
    variants |= {f"only {one}": (P, modes, (one,)) for one in both} | {"no convolution": (P, modes, ())}
    variants |= {f"{one} slices": (one, min(modes, one // 2 + 1), both) for one in (2, 2 * P)}
    found = {"variants": np.array(list(variants))}
    for name, (slices, kept, convolve) in variants.items():
        settings = usual | {"slices": slices, "modes": kept, "convolve": convolve}
        network, _ = _trained("EGNO", data, settings, seed, device, work / name)
        test = data["test"].thinned(slices)
        found[f"{name} errors"] = _errors(_forecast("EGNO", network, test, slices, device), test)
    return found


def _charged(config, names, seed, device, work):
    data = _charged_data(config, config.systems)
    return _compare(names, data, _settings(config), seed, device, work)


def _charged_data(config, count):
    """Windows with twice the times of training."""
    counts = {"train": count, "valid": config.valid_systems, "test": config.test_systems}
    return {part: charged_windows(part, number, slices=2 * config.slices) for part, number in counts.items()}


def _settings(config, **others):
    return {name: getattr(config, name) for name in SETTINGS if name not in others} | others


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
    """Networks that are given the last frames of a window, as published, and networks that are given all of it."""
    settings = {
        "width": config.motion_width, "layers": config.motion_layers, "modes": config.modes,
        "slices": config.slices, "batch": config.motion_batch, "rate": config.motion_rate,
        "decay": config.motion_decay, "steps": config.motion_steps, "schedule": config.motion_schedule,
        "evaluations": config.motion_evaluations, "patience": config.patience,
    }  # fmt: skip
    spread, last = (_motion_data(motion, starts, **grid) for grid in (
        {"slices": 2 * config.slices}, {"slices": config.slices, "spread": "last"},
    ))  # fmt: skip
    found = _compare(("EGNO", "EGNN", "EGNN-R", "EGNN-S"), spread, settings, seed, device, work, upright=True)
    found |= _straight(spread, config.slices)
    # Where all times are near the end, the number of the slice is what the published network is told.
    settings |= {"time_coord": "index"}
    network, curve = _trained("EGNO", last, settings, seed, device, work / "EGNO-L")
    found |= {f"EGNO-L {what}": values for what, values in curve.items()}
    found["EGNO-L errors"] = _errors(
        _forecast("EGNO", network, last["test"], config.slices, device), last["test"]
    )
    bones = np.asarray(motion.bones)
    return found | {"bones": bones, "windows": np.array([len(spread[part]) for part in spread])}


def _motion_data(motion, starts, **grid):
    train = motion_windows(motion, starts["train"], limit=200, **grid)
    rest = {
        part: motion_windows(motion, starts[part], height=train.height, **grid) for part in ("valid", "test")
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
    molecule = loupe.data.load(name)
    counts = {"train": config.molecule_windows} | MOLECULE_PARTS
    data = {
        part: molecule_windows(
            molecule, part, count=count, distance=config.molecule_frames, slices=config.molecule_slices
        )
        for part, count in counts.items()
    }
    settings = {
        "width": config.molecule_width, "layers": config.molecule_layers, "modes": config.modes,
        "slices": config.molecule_slices, "batch": config.molecule_batch, "rate": config.molecule_rate,
        "decay": config.molecule_decay, "steps": config.molecule_steps, "schedule": config.molecule_schedule,
        "evaluations": config.molecule_evaluations, "patience": config.molecule_evaluations,
    }  # fmt: skip
    found = _compare(("EGNO", "EGNN", "EGNN-R", "EGNN-S"), data, settings, seed, device, work)
    found |= _straight(data, config.molecule_slices)
    bonds = data["test"].edges[:, data["test"].edge_values[0, :, 2] == 1]
    found["bones"] = bonds[:, bonds[0] < bonds[1]].T.numpy()
    return found | {"windows": np.array([len(data[part]) for part in data])}


# --- training and prediction --------------------------------------------------------------------------------


def _compare(names, data, settings, seed, device, work, *, upright=False):
    """Each of these networks, trained: errors of test windows ``[S, P]``, predictions of a few, and their symmetry."""
    P = settings["slices"]
    test = data["test"]
    some = test.chosen(slice(0, len(test), max(1, len(test) // SHOWN))).chosen(slice(0, SHOWN))
    found = {
        "start": some.positions.numpy(),
        "truth": some.targets.numpy(),
        "truth times": some.times.numpy(),
        "groups": (some.edge_values[:, : some.positions.shape[1] - 1, 0] < 0).numpy(),
    }
    for name in names:
        network, curve = _trained(name, data, settings, seed, device, work / name)
        found |= {f"{name} {what}": values for what, values in curve.items()}
        view = test.thinned(1 if name in END_ONLY else P)
        forecast = _forecast(name, network, view, P, device)
        found[f"{name} errors"] = _errors(forecast, view)
        found[f"{name} shown"] = _forecast(name, network, some, P, device).numpy()
        for turn, what in ((_any_turn, "turned"), (_upright_turn, "upright"))[: 1 + upright]:
            rotated, size = _rotated(name, network, view, forecast, turn(seed), P, device)
            found[f"{name} {what} errors"], found[f"{name} {what} deviation"] = rotated, size
        if name == "EGNO" and len(test.times) == 2 * P and _even(test):
            found |= _resolution(network, test, some, P, device)
    return found


def _even(windows):
    """Whether times are spread evenly, as EGNO takes them to be."""
    P = len(windows.times)
    return torch.allclose(windows.times, torch.arange(1, P + 1, dtype=torch.float64) / P)


def _resolution(network, test, some, P, device):
    """EG7: the same weights, asked for twice the times; told the time, and told the number of the slice."""
    found = {}
    for coordinate in ("physical", "index"):
        network.time_coord = coordinate
        fine = _forecast("EGNO", network, test, 2 * P, device)
        found[f"EGNO {coordinate} fine errors"] = _errors(fine, test)
    network.time_coord = "physical"
    found["EGNO fine shown"] = _forecast("EGNO", network, some, 2 * P, device).numpy()
    return found


def _trained(name, data, settings, seed, device, checkpoint):
    """A network at its best by the end of the window on the validation part, and how it came there."""
    P = 1 if name in END_ONLY else settings["slices"]
    train, valid = (data[part].thinned(P) for part in ("train", "valid"))
    network = _built(name, train, settings, seed).to(device)
    samples = train.steps() if name == "EGNN-R" else train
    batches = Batches(*samples.tensors(), size=min(settings["batch"], len(samples)), seed=seed)
    graph = samples.graph(batches.size).to(device)

    def loss(model, batch, generator):
        x, v, targets, *known = batch
        x, v = x.flatten(0, 1), v.flatten(0, 1)
        features, edge_features = samples.features(x, v, graph, *known)
        return (
            (model(x, v, features, graph, edge_features) - targets.transpose(0, 1).flatten(1, 2))
            .square()
            .mean()
        )

    def of_the_end(network):
        return _errors(_forecast(name, network, valid, P, device), valid)[:, -1].mean()

    best = _Best(settings["steps"], settings["evaluations"], settings["patience"], of_the_end)
    schedules = {
        "constant": None,
        "cosine": cosine(settings["steps"]),
        "halved": step_decay(settings["steps"] // 2),
    }
    optimiser = torch.optim.Adam(network.parameters(), lr=settings["rate"], weight_decay=settings["decay"])
    run = fit(
        network, loss, batches, optimiser, steps=settings["steps"], seed=seed, device=device,
        schedule=schedules[settings["schedule"]], hooks=[best], checkpoint=checkpoint.with_suffix(".pt"),
    )  # fmt: skip
    network.load_state_dict(best.weights)
    curve = {
        "steps": np.array(best.steps),
        "valid": np.array(best.values),
        "clock": np.array(best.clock),
        "losses": run.losses.cpu().numpy()[:: max(1, settings["steps"] // 200)],
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }
    return network, curve


def _built(name, windows, settings, seed):
    F, E = windows.node_features, windows.edge_features
    sizes = {"width": settings["width"], "layers": settings["layers"], "seed": seed}
    if name in ("EGNN", "EGNN-R"):
        return EGNN(F, E, **sizes)
    if name == "EGNN-S":
        return SequentialEGNN(F, E, **sizes, slices=settings["slices"])
    if name == "RF":
        return RadialField(E, **sizes)
    if name == "MPNN":
        return MessagePassing(F, E, **sizes)
    options = {"time_coord": "physical"} | {
        key: settings[key] for key in ("slices", "modes", "convolve", "time_coord") if key in settings
    }
    return EGNO(F, E, **sizes, **options)


class _Best:
    """A hook: keeps the weights with the least error, and the processor time without that of measuring.

    It ends the run after ``patience`` measurements without a better one.
    """

    def __init__(self, steps, evaluations, patience, measure):
        self.last, self.every = steps, max(1, steps // evaluations)
        self.patience, self.measure = patience, measure
        self.steps, self.values, self.clock, self.weights = [], [], [], None
        self._measuring, self._begin = 0.0, time.process_time()

    def __call__(self, run):
        if run.step % self.every and run.step != self.last:
            return False
        now = time.process_time()
        value = float(self.measure(run.network))
        if not np.isfinite(value):
            raise ValueError(f"training diverged before step {run.step}: choose a lower rate")
        if not self.values or value < min(self.values):
            self.weights = copy.deepcopy(run.network.state_dict())
        self.steps.append(run.step)
        self.values.append(value)
        self.clock.append(now - self._begin - self._measuring)
        self._measuring += time.process_time() - now
        return len(self.values) - 1 - np.argmin(self.values) >= self.patience

    def state_dict(self):
        return {name: getattr(self, name) for name in ("steps", "values", "clock", "weights")}

    def load_state_dict(self, state):
        for name, value in state.items():
            setattr(self, name, value)
        self._begin -= self.clock[-1] if self.clock else 0.0


def _forecast(name, network, windows, P, device):
    """Positions at P times, ``[S, P, N, 3]``; of those that know the end only at one."""
    found = []
    with evaluating(network):
        for first in range(0, len(windows), EVALUATED):
            part = windows.chosen(slice(first, first + EVALUATED))
            x, v, _, *known = (each.to(device) for each in part.tensors())
            B, N = x.shape[:2]
            graph = part.graph(B).to(device)

            def told(x, v, part=part, graph=graph, known=known):
                return part.features(x, v, graph, *known)

            x, v = x.flatten(0, 1), v.flatten(0, 1)
            if name == "EGNN-R":
                path = rollout(network, x, v, P, told, graph, duration=windows.duration / P, reach=REACH)
            else:
                features, edge_features = told(x, v)
                options = {"slices": P} if name == "EGNO" else {}
                path = network(x, v, features, graph, edge_features, **options)
            found.append(path.view(-1, B, N, 3).transpose(0, 1).cpu())
    return torch.cat(found)


def _errors(forecast, windows):
    """Mean squared error of each window at each time, over points and coordinates: float64 ``[S, P]``."""
    return (forecast.double() - windows.targets).square().mean((2, 3)).numpy()


def _straight(data, P):
    """Straight lines, one factor for each time fitted to the training part; and standing still."""
    train, test = (data[part].thinned(P) for part in ("train", "test"))
    way = train.targets - train.positions.unsqueeze(1)
    v = train.velocities.unsqueeze(1)
    factors = (way * v).sum((0, 2, 3)) / v.square().sum((0, 2, 3))
    line = test.positions.unsqueeze(1) + factors.view(-1, 1, 1) * test.velocities.unsqueeze(1)
    still = test.positions.unsqueeze(1).expand_as(test.targets)
    return {
        "Linear errors": _errors(line, test),
        "Linear factors": factors.numpy(),
        "still errors": _errors(still, test),
    }


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


def _rotated(name, network, windows, forecast, turn, P, device):
    """Errors where all is turned, and the largest deviation from the turned prediction over its extent."""
    turned = {part: getattr(windows, part) @ turn.T for part in ("positions", "velocities", "targets")}
    rotated = replace(windows, **turned)
    there = _forecast(name, network, rotated, P, device)
    centres = windows.positions.mean(1)[:, None, None]
    extent = (forecast - centres).abs().max()
    deviation = (there - forecast @ turn.T).abs().max() / extent
    return _errors(there, rotated), float(deviation)
