"""The training loop: what it computes, and that an interrupted run ends at the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from loupe.training import Batches, History, cosine, fit, log_spaced, step_decay, warmup
from loupe.training.devices import seed_of
from tests.training import runs

PROGRAM = Path(runs.__file__)


def plain_loss(model, batch, generator):
    x, y = batch
    return torch.nn.functional.cross_entropy(model(x), y)


def test_steps_are_those_of_a_loop_written_out():
    x, y = runs.data()
    batches = Batches(x, y, size=16, seed=5)
    ours, by_hand = (torch.nn.Linear(8, 3) for _ in range(2))
    by_hand.load_state_dict(ours.state_dict())
    run = fit(ours, plain_loss, batches, torch.optim.SGD(ours.parameters(), lr=0.1), steps=30,
              schedule=step_decay(10), clip=0.5)  # fmt: skip
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for step in range(30):
        optimizer.param_groups[0]["lr"] = 0.1 if step < 10 else 0.05
        loss = plain_loss(by_hand, batches(step), None)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        assert run.losses[step] == loss
    assert torch.equal(ours.weight, by_hand.weight)


def test_accumulated_parts_make_the_same_batch():
    x, y = runs.data()
    nets = [torch.nn.Linear(8, 3).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    found = [
        fit(net, plain_loss, Batches(x.double(), y, size=16), torch.optim.SGD(net.parameters(), lr=0.5),
            steps=20, accumulate=accumulate)
        for net, accumulate in zip(nets, (1, 4), strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(nets[0].weight, nets[1].weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0].losses, found[1].losses)


def test_average_is_the_exponential_moving_average():
    net = torch.nn.Linear(8, 3)
    seen = [net.weight.detach().clone()]
    run = fit(net, plain_loss, Batches(*runs.data(), size=16), torch.optim.SGD(net.parameters(), lr=0.5), steps=12,
              ema=0.8, callbacks=(lambda run: seen.append(run.network.weight.detach().clone()),))  # fmt: skip
    expected = seen[0]
    for count, weight in enumerate(seen[1:], 1):
        kept = min(0.8, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * weight
    torch.testing.assert_close(run.average.weight, expected)


def test_global_random_state_is_left_alone_and_does_not_matter():
    torch.manual_seed(11)
    first = runs.digest(*runs.train(30))
    after = torch.rand(1)
    torch.manual_seed(11)
    assert torch.rand(1) == after
    assert runs.digest(*runs.train(30)) == first
    assert runs.digest(*runs.train(30, seed=1)) != first


def test_a_hook_ends_the_run_and_all_hooks_see_the_last_step():
    seen = []
    run, *_ = runs.train(50, callbacks=(lambda run: run.step == 33, lambda run: seen.append(run.step)))
    assert (run.step, run.ended, seen[-1]) == (33, True, 33)
    assert torch.isfinite(run.losses[:33]).all()
    assert torch.isnan(run.losses[33:]).all()


@pytest.mark.parametrize("stop", [1, 10, 39, 40])
def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path, stop):
    whole = runs.digest(*runs.train(40))
    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        runs.train(40, file, (lambda run: interrupt(run.step == stop),), folder=tmp_path, save_every=7)
    assert runs.digest(*runs.train(40, file, folder=tmp_path, save_every=7)) == whole
    assert runs.digest(*runs.train(40, file, folder=tmp_path)) == whole  # a finished run takes no step


def interrupt(now):
    if now:
        signal.raise_signal(signal.SIGINT)


def start(checkpoint, steps=300, pause=0.004, save_every=10):
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(checkpoint), str(steps), str(pause), str(save_every)],
        stdout=subprocess.PIPE, text=True, cwd=PROGRAM.parents[2], env={"OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
    )  # fmt: skip
    assert process.stdout.readline() == "started\n"
    return process


def test_killed_at_random_moments_and_resumed_to_the_same_bits(tmp_path):
    """Ten kills, one after another on one run: whatever they hit, the end is that of a run that was never killed."""
    whole = start(tmp_path / "whole" / "run.pt").communicate()[0].strip()
    chosen = random.Random(0)
    file = tmp_path / "killed" / "run.pt"
    for _ in range(10):
        process = start(file, pause=0.01)
        time.sleep(chosen.uniform(0.0, 0.25))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert file.exists()
    assert start(file, pause=0.0).communicate()[0].strip() == whole


def test_sigterm_saves_the_step_it_is_in(tmp_path):
    file = tmp_path / "run.pt"
    process = start(file, steps=10_000, pause=0.001, save_every=10_000)
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert 0 < torch.load(file, weights_only=True)["step"] < 10_000


def test_two_processes_follow_one(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TWO)
    curves = []
    for processes in (1, 2):
        target = tmp_path / f"losses{processes}.pt"
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
             str(program), str(target)],
            capture_output=True, text=True, cwd=PROGRAM.parents[2],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        curves.append(torch.load(target, weights_only=True))
    for one, two in zip(*curves, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert curves[0][0][-1] < curves[0][0][0]


TWO = """
import os, sys
import torch
from loupe.training import Batches, fit
generator = torch.Generator().manual_seed(0)
x = torch.randn(200, 8, generator=generator)
y = (x @ torch.randn(8, 3, generator=generator)).argmax(dim=1)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
run = fit(net, lambda model, batch, generator: torch.nn.functional.cross_entropy(model(batch[0]), batch[1]),
          Batches(x, y, size=32), torch.optim.Adam(net.parameters(), lr=1e-2), steps=100, accumulate=2, ema=0.9)
if os.environ.get("RANK", "0") == "0":
    torch.save([run.losses, net[0].weight.detach(), run.average[0].weight.detach()], sys.argv[1])
"""


def test_batches_are_full_and_every_sample_comes_once_a_pass():
    batches = Batches(torch.arange(10), size=4, seed=2)
    row = torch.cat([batches(step)[0] for step in range(10)])
    for turn in row.split(10):
        assert sorted(turn.tolist()) == list(range(10))
    assert not torch.equal(row[:10], row[10:20])
    assert torch.equal(batches(1)[0], row[4:8])  # any step, in any order
    parts = [batches(7, part, 2)[0] for part in range(2)]
    assert torch.equal(torch.cat(parts), row[28:32])
    assert Batches(torch.arange(3), size=8)(0)[0].tolist().count(0) >= 2


def test_schedules():
    assert [warmup(0)(0), step_decay(3, factor=0.1)(3)] == [1.0, 0.1]
    both = cosine(100, warmup=10, floor=0.1)
    assert both(9) == 1.0
    assert both(10) == pytest.approx(1.0)
    assert both(55) == pytest.approx(0.55)
    assert both(1000) == pytest.approx(0.1)


def test_seeds_differ():
    seeds = {seed_of(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 8000  # torch's processor generator takes 32 bits
    assert seed_of(1, 2) != seed_of(2, 1)


def test_history_measures_at_intervals():
    history = History(10, lambda run: {"step": run.step})
    assert history.last("step") != history.last("step")  # nan
    runs.train(35, callbacks=(history,))
    assert (history.steps, history.values) == ([10, 20, 30], {"step": [10.0, 20.0, 30.0]})
    chosen = History([1, 4, 30], lambda run: {"step": run.step})
    runs.train(35, callbacks=(chosen,))
    assert chosen.steps == [1, 4, 30]


def test_steps_evenly_spaced_in_their_logarithm():
    steps = np.array(log_spaced(15_000, 30))
    assert (steps[0], steps[-1], len(steps)) == (15, 15_000, 30)
    assert np.allclose(steps[1:] / steps[:-1], 1000 ** (1 / 29), rtol=0.03)
    assert log_spaced(6, 2) == [1, 6]
    assert log_spaced(2, 9) == [1, 2]


def test_refusals(tmp_path):
    net = torch.nn.Linear(8, 3)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="at least 1, got 0, 1 and 1000"):
        fit(net, plain_loss, None, sgd, steps=0)
    with pytest.raises(ValueError, match="a batch of 15 cannot be split in 2 equal shards"):
        fit(net, plain_loss, Batches(*runs.data(), size=15), sgd, steps=1, accumulate=2)
    with pytest.raises(ValueError, match=r"one length above 0, got \[2, 3\]"):
        Batches(torch.zeros(2), torch.zeros(3), size=1)
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        Batches(torch.zeros(2), size=0)


LEFT = [
    {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NNODES": "1"},
    {"LSB_JOBID": "7", "LSB_MCPU_HOSTS": "a 2", "JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2"},
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_RANK": "3", "PMI_SIZE": "4"},
    {"RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "GROUP_RANK": "1"},
    {"KUBERNETES_PORT": "tcp://10.0.0.1:443", "TORCHELASTIC_RUN_ID": "none", "LT_CLI_USED": "1"},
]


@pytest.mark.parametrize("left", LEFT, ids=lambda left: next(iter(left)))
def test_what_a_scheduler_left_in_the_environment_does_not_matter(left, monkeypatch):
    def losses():
        net = torch.nn.Linear(8, 3)
        torch.nn.init.ones_(net.weight)
        torch.nn.init.zeros_(net.bias)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        return fit(net, plain_loss, Batches(*runs.data(), size=20), optimizer, steps=3).losses

    alone = losses()
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert torch.equal(losses(), alone)
    assert all(os.environ[name] == value for name, value in left.items())


@pytest.mark.parametrize(
    ("left", "what"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 is set without LOCAL_WORLD_SIZE"),
        ({"WORLD_SIZE": "many"}, "is no number"),
    ],
)
def test_processes_that_torchrun_did_not_start_are_refused(left, what, monkeypatch):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    net = torch.nn.Linear(8, 3)
    with pytest.raises(ValueError, match=what):
        fit(
            net,
            plain_loss,
            Batches(*runs.data(), size=20),
            torch.optim.SGD(net.parameters(), lr=0.1),
            steps=3,
        )
