"""The cost of the training loop compared with a hand-written one, and where half precision and compiling pay; on one
thread.

    python benchmarks/training.py [--quick] [--json FILE]

A loop is timed only if both end at the same weights, a precision only if the losses are close.
"""

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from measuring import command_line, environment, publish, table, wide_console
from torch.nn.functional import cross_entropy

from loupe.networks import fully_connected, lenet
from loupe.networks.transformer import Transformer
from loupe.training import Batches, Run, Training, TrajectoryRecorder, fit, train
from loupe.training.checkpoints import Checkpoint
from loupe.training.devices import open_fabric

PACKAGES = ("torch", "lightning-fabric", "loupe")
SAMPLES = 10_000

# Name (4 × 64: four hidden layers of 64): network, shape of an image, batch, steps that take half a second or so.
CASES = {
    "4 × 64, batch 32": (lambda: fully_connected([784, 64, 64, 64, 64, 10]), (784,), 32, 120),
    "LeNet, batch 100": (lambda: lenet(channels=1, size=28), (1, 28, 28), 100, 10),
}


def images(shape):
    """Random images and labels: what a network learns does not change how long it takes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, *shape, generator=generator)
    return inputs, torch.randint(10, (SAMPLES,), generator=generator)


def loss(model, batch, generator):
    """Cross-entropy of one network."""
    return cross_entropy(model(batch[0]), batch[1])


def task(case, data):
    """A network, its optimizer and its batches."""
    make, _, size, _ = CASES[case]
    torch.manual_seed(0)
    network = make()
    return network, torch.optim.SGD(network.parameters(), lr=0.01), Batches(*data, size=size)


def bare_loop(network, loss, batches, optimizer, steps):
    """The hand-written loop."""
    for step in range(steps):
        loss(network, batches(step), None).backward()
        optimizer.step()
        optimizer.zero_grad()


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
    (theirs, their_sgd, batches), (ours, our_sgd, _) = (task(case, data) for _ in range(2))
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


# Where half precision may pay: widths of an MLP at batch 256 and of a transformer of 4 blocks at batch 16, length 128.
WIDTHS = (64, 256, 512)
WAYS = {
    "float32": {},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "float32, compiled": {"compile": True},
    "bf16-mixed, compiled": {"precision": "bf16-mixed", "compile": True},
}


def precision_rows(widths, steps):
    """Milliseconds a step of networks by width, in float32 and in mixed bfloat16, compiled or not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2048, 256, generator=generator)
    labels = torch.randint(10, (2048,), generator=generator)
    tokens = torch.randint(27, (64, 128), generator=generator)

    def next_token(model, batch, generator):
        return cross_entropy(model(batch[0], torch.zeros(len(batch[0]))).flatten(0, 1), batch[0].flatten())

    def mlp(width):
        return fully_connected([256, width, width, width, 10])

    def transformer(width):
        return Transformer(27, width=width, heads=4, blocks=4, length=128)

    cases = {
        "MLP, batch 256": (mlp, loss, (x, labels), 256),
        "transformer, 16 × 128": (transformer, next_token, (tokens,), 16),
    }
    for width in widths:
        for case, (make, objective, data, batch) in cases.items():
            for method, options in WAYS.items():
                torch.manual_seed(0)
                spent, losses = _step(
                    make(width), objective, data, Training(steps=steps, batch=batch, **options)
                )
                if method == "float32":
                    exact = losses
                assert abs(losses.mean() - exact.mean()) < 0.05 * exact.mean(), (case, width, method)
                yield {"task": "precision", "device": "cpu", "case": f"{case}, width {width}", "method": method,
                       "ms a step": spent}  # fmt: skip


def _step(network, objective, data, settings):
    """Median milliseconds of the later steps, which compile nothing, and the losses."""
    times = []
    found = train(
        network, objective, data, settings, callbacks=[lambda run: times.append(time.perf_counter())]
    )
    later = [1e3 * (end - begin) for begin, end in pairwise(times)]
    return statistics.median(later[len(later) // 3 :]), found.losses


def milliseconds(function):
    """Wall milliseconds of one call."""
    begin = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - begin)


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    repetitions, shorter = (1, 10) if options.quick else (9, 1)
    rows = list(loop_rows(CASES, repetitions, shorter))
    rows += precision_rows(WIDTHS[:1] if options.quick else WIDTHS, 10 if options.quick else 40)
    console = wide_console(150)
    console.print(table("Median of several repetitions, one thread", rows))
    publish(console, environment(PACKAGES, device="cpu"), rows, options.json)


if __name__ == "__main__":
    main()
