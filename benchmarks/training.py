"""Training eight small networks: one after another, in two processes, and stacked; and what the loop itself costs.

    python benchmarks/training.py [--quick] [--json FILE]

Every process has one thread. A time is believed only if all ways end at the same weights. On a machine with a GPU the
networks are trained there as well.
"""

import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import torch
from measuring import command_line, environment, publish, table, wide_console
from numpy.linalg import norm
from torch.nn.functional import cross_entropy

from loupe.networks import fully_connected, lenet
from loupe.training import Batches, Ensemble, EnsembleBatches, EnsembleSGD, Run, TrajectoryRecorder, fit
from loupe.training.checkpoints import Checkpoint
from loupe.training.devices import open_fabric
from loupe.training.ensemble import EnsembleLoss

PACKAGES = ("torch", "lightning-fabric", "loupe")
MEMBERS, PROCESSES, SAMPLES = 8, 2, 10_000
ACCURACY = 1e-4  # of a member's way from its start

# Name (4 × 64: four hidden layers of 64): network, shape of an image, batch, steps that take half a second or so.
CASES = {
    "4 × 64, batch 32": (lambda: fully_connected([784, 64, 64, 64, 64, 10]), (784,), 32, 120),
    "4 × 64, batch 128": (lambda: fully_connected([784, 64, 64, 64, 64, 10]), (784,), 128, 60),
    "4 × 200, batch 64": (
        lambda: fully_connected([784, 200, 200, 200, 200, 10]),
        (784,),
        64,
        60,
    ),
    "LeNet, batch 100": (lambda: lenet(channels=1, size=28), (1, 28, 28), 100, 10),
}

# Name: whether members are stacked, in how many processes.
WAYS = {
    "one after another": (False, 1),
    "two processes": (False, PROCESSES),
    "ensemble": (True, 1),
    "ensembles, two processes": (True, PROCESSES),
}


def images(shape, device="cpu"):
    """Random images and labels: what a network learns does not change how long it takes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, *shape, generator=generator)
    return inputs.to(device), torch.randint(10, (SAMPLES,), generator=generator).to(device)


def loss(model, batch, generator):
    """Cross-entropy of one network."""
    return cross_entropy(model(batch[0]), batch[1])


def task(case, member, data):
    """The network, optimiser and batches of one member."""
    make, _, size, _ = CASES[case]
    torch.manual_seed(member)
    network = make()
    return (
        network,
        torch.optim.SGD(network.parameters(), lr=rate(member)),
        Batches(*data, size=size, seed=member),
    )


def rate(member):
    """A learning rate for each member."""
    return 0.01 * (1 + member)


def train(case, members, stacked, steps, device):
    """Train some members in this process: when it began and ended, its CPU-seconds, and every member's way."""
    torch.set_num_threads(1)
    tasks = [task(case, member, images(CASES[case][1], device)) for member in members]
    starts = [flat(network.parameters()) for network, _, _ in tasks]
    if stacked:
        ensemble = Ensemble([network for network, _, _ in tasks])
        optimiser = EnsembleSGD(ensemble, [rate(member) for member in members])
        together = EnsembleBatches([batches for _, _, batches in tasks])
        runs = [(ensemble, EnsembleLoss(cross_entropy), together, optimiser)]
    else:
        runs = [(network, loss, batches, optimiser) for network, optimiser, batches in tasks]
    begin, begin_cpu = time.monotonic(), time.process_time()
    for run in runs:
        fit(*run, steps=steps, device=device)
    if device == "cuda":
        torch.cuda.synchronize()
    end, cpu = time.monotonic(), time.process_time() - begin_cpu
    ends = [ensemble.member(k).values() if stacked else tasks[k][0].parameters() for k in range(len(members))]
    return begin, end, cpu, [(flat(own) - start).numpy() for own, start in zip(ends, starts, strict=True)]


def flat(parameters):
    """One vector of float64 on the processor."""
    return torch.cat([one.detach().double().cpu().flatten() for one in parameters])


def measure(workers, case, way, steps, device):
    """Wall seconds from the first begin to the last end, CPU-seconds of all processes, how far all members went."""
    stacked, processes = WAYS[way]
    share = MEMBERS // processes
    jobs = [
        worker.submit(train, case, range(k * share, (k + 1) * share), stacked, steps, device)
        for k, worker in enumerate(workers[:processes])
    ]
    begins, ends, cpu, ways = zip(*(job.result() for job in jobs), strict=True)
    return max(ends) - min(begins), sum(cpu), [own for part in ways for own in part]


def together_rows(workers, cases, repetitions, device, shorter=1):
    """Steps of all members a second, each way; the ways take turns, so that a busy moment hits all alike."""
    for case in cases:
        steps = CASES[case][3] // shorter
        for way in WAYS:
            measure(workers, case, way, 2, device)
        found = {way: [] for way in WAYS}
        for _ in range(repetitions):
            for way in WAYS:
                found[way].append(measure(workers, case, way, steps, device))
        reference = found["one after another"][0][2]
        usual = MEMBERS * steps / statistics.median(wall for wall, _, _ in found["one after another"])
        for way, runs in found.items():
            # In float32 a ReLU at its edge may send one member elsewhere, so that in the middle is compared; in
            # float64 all agree to rounding, as the tests of ensembles check.
            difference = statistics.median(
                norm(one - two) / norm(two) for one, two in zip(runs[0][2], reference, strict=True)
            )
            assert difference < ACCURACY, (
                f"{case}, {way}: members end elsewhere, by {difference:.0e} of their way"
            )
            speeds = [MEMBERS * steps / wall for wall, _, _ in runs]
            yield {
                "task": f"{MEMBERS} networks at once",
                "device": device,
                "case": case,
                "method": way,
                "steps a second": statistics.median(speeds),
                "steps a CPU-second": MEMBERS * steps / statistics.median(cpu for _, cpu, _ in runs),
                "speed-up": statistics.median(speeds) / usual,
                "speeds": speeds,
                "difference": float(difference),
            }


def bare_loop(network, loss, batches, optimiser, steps):
    """What one writes by hand where nothing can go wrong."""
    for step in range(steps):
        loss(network, batches(step), None).backward()
        optimiser.step()
        optimiser.zero_grad()


def loop_rows(cases, repetitions, shorter=1):
    """Milliseconds a step of the bare loop and of ``fit``, and of what may be added to it."""
    for case in cases:
        data, steps = images(CASES[case][1]), 4 * CASES[case][3] // shorter
        loop_costs(case, data, 2)
        found = [loop_costs(case, data, steps) for _ in range(repetitions)]
        for name in found[0]:
            yield {
                "task": "the loop",
                "device": "cpu",
                "case": case,
                "method": name,
                "milliseconds": statistics.median(costs[name] for costs in found),
            }


def loop_costs(case, data, steps):
    """Milliseconds of each part of one run."""
    (theirs, their_sgd, batches), (ours, our_sgd, _) = (task(case, 0, data) for _ in range(2))
    bare = milliseconds(lambda: bare_loop(theirs, loss, batches, their_sgd, steps))
    fitted = milliseconds(lambda: fit(ours, loss, batches, our_sgd, steps=steps))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    recorder = TrajectoryRecorder(ours, steps)
    recorded = milliseconds(lambda: [recorder() for _ in range(steps)])
    with tempfile.TemporaryDirectory() as folder:
        run = Run(ours, our_sgd, None, torch.zeros(steps), steps)
        checkpoint = Checkpoint(Path(folder) / "run.pt", run, (), open_fabric("cpu", "32-true"))
        saved = milliseconds(checkpoint.save)
    return {"bare loop": bare / steps, "fit": fitted / steps, "recorder, each step": recorded / steps,
            "checkpoint, each time": saved}  # fmt: skip


def milliseconds(function):
    """Wall milliseconds of one call."""
    begin = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - begin)


def verdicts(rows):
    """Who wins each case by wall time: the fastest way, and what stacking gains.

    The faster of the two ways that stack is compared with the faster of the two that do not, repetition by repetition.
    It wins, or loses, if it does in all of them, or in all but one in nine: chance alone does that one time in 25.
    """
    compared = [row for row in rows if "speeds" in row]
    for device, case in dict.fromkeys((row["device"], row["case"]) for row in compared):
        ways = [row for row in compared if (row["device"], row["case"]) == (device, case)]
        ways.sort(key=lambda row: row["steps a second"])
        stacked, separate = (
            [row["speeds"] for row in ways if WAYS[row["method"]][0] is kind][-1] for kind in (True, False)
        )
        gains = [one / two for one, two in zip(stacked, separate, strict=True)]
        ahead, rare = sum(gain > 1 for gain in gains), len(gains) // 9
        yield {
            "device": device,
            "case": case,
            "fastest": ways[-1]["method"],
            "gain of stacking": statistics.median(gains),
            "ahead": ahead,
            "repetitions": len(gains),
            "stacking": "wins"
            if ahead >= len(gains) - rare
            else "loses"
            if ahead <= rare
            else "neither wins nor loses",
        }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    repetitions, shorter = (1, 10) if options.quick else (9, 1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        workers = [stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in range(PROCESSES)]
        rows = [
            row for device in devices for row in together_rows(workers, CASES, repetitions, device, shorter)
        ]
    rows += loop_rows(["4 × 64, batch 32", "LeNet, batch 100"], repetitions, shorter)
    console = wide_console(150)
    shown = [
        {key: value for key, value in row.items() if key not in ("speeds", "difference")} for row in rows
    ]
    console.print(table("Median of several repetitions, one thread a process", shown))
    for one in verdicts(rows):
        console.print(", ".join(f"{key} {value}" for key, value in one.items()))
    about = environment(PACKAGES, device=devices[-1], others={"members": MEMBERS})
    publish(console, about, rows, options.json, verdict=list(verdicts(rows)))


if __name__ == "__main__":
    main()
