"""What a checkpoint keeps, what it refuses to keep, and what it says when it does not fit."""

import random
from collections import OrderedDict, namedtuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from loupe.errors import CheckpointError
from loupe.training import Batches, TrajectoryRecorder, fit
from loupe.training.checkpoints import IDENTITY
from tests.training import runs

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
DATA = Batches(X, X.sum(1, keepdim=True), size=8)


def square(model, batch, generator):
    return (model(batch[0]) - batch[1]).square().mean()


class Hook:
    """A hook whose state is what it is given."""

    def __init__(self, state):
        self.state = state

    def __call__(self, run):
        return False

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def run(file, steps=20, net=None, optimizer=None, **settings):
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1) if net is None else net
    optimizer = (
        torch.optim.SGD(net.parameters(), lr=0.01) if optimizer is None else optimizer(net.parameters())
    )
    return fit(net, square, DATA, optimizer, steps=steps, checkpoint=file, **settings)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"best": np.float64(1)}, r"\['best'\] is a numpy.float64"),
        ({"best": [1, (2, np.int64(3))]}, r"\['best'\]\[1\]\[1\] is a numpy.int64"),
        ({"values": np.zeros(3)}, r"\['values'\] is a numpy.ndarray"),
        ({"when": Path("x")}, "is a pathlib.PosixPath"),
        ({"of": Fraction(1, 2)}, "is a fractions.Fraction"),
        ({"f": lambda: 0}, r"is a builtins.function"),
        ({"point": namedtuple("Point", "x")(1)}, "Point"),
        ({np.int64(3): 1}, "a key is a numpy.int64"),
        ({"some": {"deep": {1: slice(3)}}}, r"\['some'\]\['deep'\]\[1\] is a builtins.slice"),
        (np.float32(2), "it is a numpy.float32"),
        ({"random": random.Random(0)}, "is a random.Random"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_state_that_could_not_be_restored_is_refused_before_a_step_is_lost(tmp_path, state, words):
    with pytest.raises(ValueError, match=rf"the state of loss or callback Hook cannot be saved: .*{words}"):
        run(tmp_path / "a.pt", callbacks=[Hook(state)])
    assert not (tmp_path / "a.pt").exists()


def test_a_state_that_turns_bad_leaves_the_last_good_checkpoint(tmp_path):
    hook = Hook({"best": 1.0})

    class Turning(Hook):
        def __call__(self, run):
            if run.step == 15:
                self.state = {"best": np.float64(1)}

    with pytest.raises(ValueError, match=r"Turning cannot be saved: \['best'\] is a numpy.float64"):
        run(tmp_path / "a.pt", callbacks=[Turning(hook.state)], save_every=10)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 10


@pytest.mark.parametrize(
    "state",
    [
        {}, None, {"a": None, 1: True, 2.5: b"x", (1, 2): "y"}, {"z": 1j, "l": [1, [2, (3,)]]},
        OrderedDict(a=torch.zeros(2)), {"p": torch.nn.Parameter(torch.ones(1)), "s": torch.Size([2])},
        {"d": torch.float32, "dev": torch.device("cpu")}, {"e": set()}, {"x": 10**40, "n": float("nan")},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_states_come_back(tmp_path, state):
    run(tmp_path / "a.pt", steps=5, callbacks=[Hook(state)])
    hook = Hook("nothing")
    run(tmp_path / "a.pt", steps=6, callbacks=[hook])
    assert repr(hook.state) == repr(state)


def test_numbers_of_numpy_in_the_optimizer_and_the_schedule_do_no_harm(tmp_path):
    def adam(parameters):
        return torch.optim.Adam(parameters, lr=np.float64(0.01), weight_decay=np.float64(0.1))

    settings = {"optimizer": adam, "schedule": lambda step: np.float64(0.5)}
    run(tmp_path / "a.pt", steps=5, **settings)
    whole, rest = run(None, steps=9, **settings), run(tmp_path / "a.pt", steps=9, **settings)
    assert torch.equal(whole.network.weight, rest.network.weight)


@pytest.mark.parametrize(
    ("make", "first", "now"),
    [
        (torch.optim.SGD, {"lr": 0.01}, {"lr": 1e-5, "weight_decay": 0.1}),
        (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, {"lr": 0.02, "momentum": 0.5, "nesterov": True}),
        (torch.optim.Adam, {"lr": 0.01}, {"lr": 1e-4, "betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.3}),
        (torch.optim.AdamW, {"lr": 0.01}, {"lr": 1e-4, "weight_decay": 0.0, "amsgrad": False}),
        (torch.optim.RMSprop, {"lr": 0.01}, {"lr": 1e-4, "alpha": 0.5}),
    ],
)
def test_the_caller_sets_the_optimizer_and_its_state_is_restored(tmp_path, make, first, now):
    file = tmp_path / "c.pt"
    begun = run(file, steps=5, optimizer=lambda parameters: make(parameters, **first))
    kept = begun.optimizer.state_dict()["state"]
    # No step: all is as restored.
    same = run(file, steps=5, optimizer=lambda parameters: make(parameters, **now))
    torch.testing.assert_close(same.optimizer.state_dict()["state"], kept)
    net = torch.nn.Linear(4, 1)
    net.load_state_dict(begun.network.state_dict())
    by_hand = make(net.parameters(), **now)
    by_hand.load_state_dict(by_hand.state_dict() | {"state": kept})
    square(net, DATA(5), None).backward()
    by_hand.step()
    rest = run(file, steps=6, optimizer=lambda parameters: make(parameters, **now))
    group = rest.optimizer.param_groups[0]
    assert {name: group[name] for name in now} == now
    assert torch.equal(rest.network.weight, net.weight)


class Counting(torch.optim.SGD):
    """An optimizer that counts in its group, as some do."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1


def test_what_an_optimizer_changes_in_its_groups_is_state(tmp_path):
    run(tmp_path / "a.pt", steps=5, optimizer=lambda parameters: Counting(parameters, lr=0.01))
    rest = run(tmp_path / "a.pt", steps=8, optimizer=lambda parameters: Counting(parameters, lr=0.5))
    assert (rest.optimizer.param_groups[0]["count"], rest.optimizer.param_groups[0]["lr"]) == (8, 0.5)


def test_a_finished_run_is_not_called_damaged(tmp_path):
    run(tmp_path / "a.pt", steps=20)
    with pytest.raises(
        ValueError, match="holds 20 steps and the run asks for steps=10: give at least 20"
    ) as found:
        run(tmp_path / "a.pt", steps=10)
    assert not isinstance(found.value, CheckpointError)


def wide(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"net": torch.nn.Sequential(torch.nn.Linear(4, 1))}, "is of Linear, SGD, not of Sequential, SGD"),
        ({"net": torch.nn.Linear(4, 1, bias=False)}, "of another network: .*bias"),
        ({"net": torch.nn.Linear(4, 1).requires_grad_(True), "optimizer": torch.optim.Adam}, "not of Linear, Adam"),
        (
            {"optimizer": lambda p: torch.optim.SGD([{"params": [one]} for one in p], lr=0.1)},
            "of another optimizer: .*groups",
        ),
        ({"ema": 0.9}, "not of Linear, SGD, MovingAverage"),
        ({"seed": 1}, "of seed 0, not of seed 1"),
        ({"callbacks": [Hook(1)]}, "not of Linear, SGD, Hook"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_run_says_so(tmp_path, settings, words):
    file = tmp_path / "a.pt"
    run(file)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=words) as found:
        run(file, steps=30, **settings)
    assert str(found.value).endswith("delete it to start again")
    assert "\x1b" not in str(found.value)
    assert len(str(found.value)) < 700
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_unit_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv(IDENTITY, "a/b seed 0 at cpu")
    run(tmp_path / "a.pt")
    monkeypatch.setenv(IDENTITY, "a/b seed 1 at cpu")
    with pytest.raises(CheckpointError, match="of a/b seed 0 at cpu, not of a/b seed 1 at cpu"):
        run(tmp_path / "a.pt")


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    file = tmp_path / "a.pt"
    run(file)
    sound, chosen = file.read_bytes(), random.Random(0)
    for trial in range(60):
        harmed = bytearray(sound)
        if trial % 3:
            harmed[chosen.randrange(len(harmed))] ^= 1 << chosen.randrange(8)
        else:
            del harmed[chosen.randrange(len(harmed)) :]
        file.write_bytes(harmed)
        with pytest.raises(CheckpointError, match=r"is damaged: .*: delete it to start again"):
            run(file)


@pytest.mark.parametrize("kind", ["folder", "empty", "text", "loop", "without a digest", "of torch alone"])
def test_what_is_no_checkpoint_is_one_sentence(tmp_path, kind):
    file = tmp_path / "a.pt"
    {
        "folder": file.mkdir,
        "empty": lambda: file.write_bytes(b""),
        "text": lambda: file.write_text("not a checkpoint"),
        "loop": lambda: file.symlink_to(file),
        "without a digest": lambda: torch.save({"step": 3}, file),
        "of torch alone": lambda: torch.save({"parts": [], "losses": torch.zeros(3), "step": 3, "ended": False}, file),
    }[kind]()  # fmt: skip
    with pytest.raises(CheckpointError, match=r"checkpoint .*a\.pt is .*: delete it to start again"):
        run(file)


@pytest.mark.parametrize("place", ["file/a.pt", "/proc/none/a.pt", "x" * 300 + ".pt"])
def test_a_checkpoint_that_cannot_be_written_is_one_sentence(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"could not be written \(.*\): make room there|is not readable"):
        run(tmp_path / place)


def test_iterates_that_were_damaged_on_disk_are_found(tmp_path):
    file = tmp_path / "rows"
    _, recorder, _ = runs.train(30, folder=tmp_path)
    recorder.state_dict()
    (found,) = [one for one in tmp_path.iterdir()]
    sound, chosen = found.read_bytes(), random.Random(1)
    assert file != found
    for _ in range(40):
        harmed = bytearray(sound)
        harmed[chosen.randrange(len(harmed))] ^= 1 << chosen.randrange(8)
        found.write_bytes(harmed)
        again = TrajectoryRecorder(runs.network(), 20, found)
        again.load_state_dict({"steps": recorder.steps})
        with pytest.raises(CheckpointError, match="is damaged or holds iterates of another run"):
            again.iterates()
