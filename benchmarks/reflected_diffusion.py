"""Reflected diffusion on one thread: the kernel's score, a U-Net, and the share of the score in training the U-Net.

    python benchmarks/reflected_diffusion.py [--quick] [--json FILE]

CPU milliseconds in float32 unless stated, compared with a reimplementation of the published function and the U-Net of
the diffusers package. No score is timed before it agrees with the kernel's definition in float64.
"""

import ctypes
from functools import partial

import torch
from measuring import (
    PEAKS,
    command_line,
    environment,
    in_fresh_process,
    keep_memory,
    milliseconds,
    name_of,
    peak_bytes,
    publish,
    table,
    wide_console,
    with_tasks,
)
from peers.reflected_diffusion import by_powers_of_two, heat_kernel_score, score_by_definition

from loupe.diffusion.discrete import training_times
from loupe.diffusion.reflected import ReflectedSDE, ScoreNetwork, conditional, denoising_loss, kernel_score
from loupe.diffusion.reflected.losses import EARLIEST
from loupe.networks.unet import make_unet

PACKAGES = ("torch", "diffusers", "loupe")
COLOR, LARGE, GRAY = (128, 3, 32, 32), (32, 3, 64, 64), (64, 1, 16, 16)
NOISE = {  # smallest and largest sigma; their logarithms are spread evenly over the rows
    "training, from 0.01": (0.01, 5.0),
    "training, from 0.0001": (1e-4, 5.0),
    "five images": (0.01, 0.15),
    "all images": (0.15, 0.564),
    "cosines": (0.565, 5.0),
}
SCORES = (  # shape, noise, aim in milliseconds
    (COLOR, "training, from 0.01", 40),
    (COLOR, "training, from 0.0001", 40),
    (COLOR, "five images", None),
    (COLOR, "all images", 60),
    (COLOR, "cosines", None),
    (LARGE, "training, from 0.01", None),
    (LARGE, "training, from 0.0001", None),
    (GRAY, "training, from 0.01", None),
    (GRAY, "training, from 0.0001", None),
)
ACCURACY = ((4096, 16), (1e-3, 5.0))  # shape, smallest and largest sigma
AIMS = {torch.float32: 1e-4, torch.float64: 1e-9}  # largest error of sigma |score|
RESTATED_ERROR = {torch.float32: 1e-2, torch.float64: 1e-5}  # its guard is felt in the tails
SMALL = 2**15  # bytes

CLASSES = 10
NETWORKS = {  # options, images in a batch
    "grey, 16 × 16": (
        {"channels": 1, "width": 16, "multipliers": (1, 2, 2), "blocks": 1, "attention": (), "size": 16},
        64,
    ),
    "colour, 32 × 32, attention": (
        {"channels": 3, "width": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (16,), "size": 32},
        16,
    ),
}
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
CHAPTER = "channels first"  # how the chapter trains on a processor
EQUAL = 0.05  # numbers of parameters differ by less

OURS, RESTATED, RESTATED2, DIFFUSERS = "loupe", "re-statement", "re-statement with exp2", "diffusers"
METHODS = {
    OURS: kernel_score,
    RESTATED: heat_kernel_score,
    RESTATED2: lambda x, x0, sigma: heat_kernel_score(x, x0, sigma, by_powers_of_two),
}


def random_numbers(seed=0):
    """A generator of its own for each task."""
    return torch.Generator().manual_seed(seed)


def gray_levels(shape, generator):
    """Images of random gray levels in [0, 1], black and white among them."""
    return torch.randint(256, shape, generator=generator) / 255


def score_problem(shape, levels, dtype=torch.float32):
    """Noisy points, clean ones, noise levels: those of a batch in training."""
    generator, sde = random_numbers(), ReflectedSDE(*levels)
    x0 = gray_levels(shape, generator).to(dtype)
    sigma = sde.sigma(training_times(shape[0], generator, start=EARLIEST)).to(dtype)
    return sde.noised(x0, sigma, generator), x0, sigma


def largest_error(method, problem):
    """Of sigma |score|, a number of order 1 at all noise levels; stop if it is too large."""
    x, _, sigma = problem
    difference = METHODS[method](*problem).double() - score_by_definition(*problem)
    error = (sigma.double() * difference.abs().flatten(1).amax(1)).max().item()
    most = (AIMS if method == OURS else RESTATED_ERROR)[x.dtype]
    assert error < most, f"{method}, {name_of(x.dtype)}: scores are off by {error:.1e}"
    return error


def accuracy_rows(count):
    """Errors at all noise levels in both precisions."""
    shape, levels = ACCURACY
    for dtype, aim in AIMS.items():
        problem = score_problem((count, *shape[1:]), levels, dtype)
        for method in METHODS:
            yield {
                "precision": name_of(dtype),
                "noise levels": list(levels),
                "points": problem[0].numel(),
                "method": method,
                "largest error of sigma |score|": largest_error(method, problem),
            } | ({"aim": aim} if method == OURS else {})


def score_rows(cases, rounds):
    """Scores of a batch."""
    for shape, noise, aim in cases:
        problem = score_problem(shape, NOISE[noise])
        errors = {method: largest_error(method, problem) for method in METHODS}
        times = milliseconds({name: partial(run, *problem) for name, run in METHODS.items()}, rounds)
        for method, error in errors.items():
            yield {
                "shape": list(shape),
                "noise": noise,
                "sigma from, to": list(NOISE[noise]),
                "method": method,
                "ms": times[method],
                "times ours": times[method] / times[OURS],
                "largest error of sigma |score|": error,
            } | ({"aim, ms": aim} if aim and method == OURS else {})


def peak_memory(shape, noise, method):
    """Memory of a call beyond its input, in tensors of its shape, in this fresh process; the result is one of them."""
    torch.set_num_threads(1)
    mapped_from = -3
    ctypes.CDLL(None).mallopt(mapped_from, SMALL)  # larger tensors take fresh pages, and give them back
    METHODS[method](*score_problem((16, 512), NOISE[noise]))  # what is loaded once
    problem = score_problem(shape, NOISE[noise])
    needed = peak_bytes(partial(METHODS[method], *problem))
    return needed / (problem[0].numel() * problem[0].element_size())


def add_memory(rows):
    """Measure the peak memory for the first shape, each time in a process of its own."""
    if not (PEAKS.exists() and hasattr(ctypes.CDLL(None), "mallopt")):
        return
    for row in rows:
        if row["shape"] == list(COLOR) and row["method"] != RESTATED2:
            case = row["shape"], row["noise"], row["method"]
            row["peak, input tensors"] = in_fresh_process(peak_memory, *case)


class Training:
    """A network in training: its batch, a step, and what there is to time of a step."""

    def __init__(self, options, batch, *, backbone=OURS, layout=CHAPTER):
        generator, shape = random_numbers(), (batch, options["channels"], *[options["size"]] * 2)
        self.sde, self.generator = ReflectedSDE(), random_numbers(1)
        self.x0 = gray_levels(shape, generator).contiguous(memory_format=LAYOUTS[layout])
        self.labels = torch.randint(CLASSES, (batch,), generator=generator)
        self.sigma = self.sde.sigma(training_times(batch, generator, start=EARLIEST)).to(self.x0.dtype)
        self.x = self.sde.noised(self.x0, self.sigma, generator)
        network = make_unet(backbone=backbone, classes=CLASSES, **options)
        self.score = ScoreNetwork(network, self.sde).to(memory_format=LAYOUTS[layout])
        self.parameters = sum(one.numel() for one in network.parameters())
        self.optimizer = torch.optim.Adam(self.score.parameters(), lr=1e-3)
        for _ in range(3):  # the optimizer's memory, and an output that is no longer 0
            assert self.step().isfinite()

    def step(self):
        """Noise, forward, loss, backward, Adam."""
        self.optimizer.zero_grad()
        score = conditional(self.score, self.labels)
        loss = denoising_loss(score, self.x0, self.sde, generator=self.generator).mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.inference_mode()
    def forward(self):
        """Scores of the batch."""
        return self.score(self.x, self.sigma, self.labels)

    def noising(self):
        """Noisy points for the batch."""
        return self.sde.noised(self.x0, self.sigma, self.generator)

    def kernel(self):
        """What the network is to learn of them."""
        return self.sde.kernel_score(self.x, self.x0, self.sigma)


def network_rows(networks, rounds):
    """Images a second of both U-Nets, whose channels come last in memory or first."""
    for case, (options, batch) in networks.items():
        found = {
            (backbone, layout): Training(options, batch, backbone=backbone, layout=layout)
            for backbone in (OURS, DIFFUSERS)
            for layout in LAYOUTS
        }
        ours, theirs = (found[backbone, CHAPTER].parameters for backbone in (OURS, DIFFUSERS))
        assert abs(theirs / ours - 1) < EQUAL, f"{case}: {theirs} parameters beside {ours}"
        runs = {("forward", *one): training.forward for one, training in found.items()}
        runs |= {("step", *one): training.step for one, training in found.items()}
        times = milliseconds(runs, rounds)
        for (backbone, layout), training in found.items():
            forward, step = (times[part, backbone, layout] for part in ("forward", "step"))
            yield {
                "network": case,
                "images in a batch": batch,
                "method": backbone,
                "layout": layout,
                "parameters": training.parameters,
                "forward, ms": forward,
                "forward, images a second": 1e3 * batch / forward,
                "step, ms": step,
                "step, images a second": 1e3 * batch / step,
                "step, times ours": step / times["step", OURS, layout],
            }


def share_rows(networks, rounds):
    """What noise and the kernel's score take of a training step, as the chapter trains."""
    for case, (options, batch) in networks.items():
        training = Training(options, batch)
        times = milliseconds(
            {"noising": training.noising, "kernel": training.kernel, "step": training.step}, rounds
        )
        yield {
            "network": case,
            "images in a batch": batch,
            "noising, ms": times["noising"],
            "kernel score, ms": times["kernel"],
            "step, ms": times["step"],
            "share of noising and score": (times["noising"] + times["kernel"]) / times["step"],
        }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    rounds = 1 if options.quick else 9
    scores = list(score_rows([case for case in SCORES if case[0] == GRAY or not options.quick], rounds))
    if not options.quick:
        add_memory(scores)
    networks = dict(list(NETWORKS.items())[:1]) if options.quick else NETWORKS
    tables = {
        "Accuracy of the kernel's score": list(accuracy_rows(256 if options.quick else ACCURACY[0][0])),
        "The kernel's score": scores,
        "U-Nets": list(network_rows(networks, rounds)),
        "The kernel in a training step": list(share_rows(networks, rounds)),
    }
    console = wide_console()
    for title, rows in tables.items():
        timed = any("ms" in column for column in rows[0])
        console.print(table(f"{title}{': CPU time, one thread, medians' if timed else ''}", rows))
    about = environment(PACKAGES, kept=kept)
    publish(console, about, with_tasks(tables), options.json)


if __name__ == "__main__":
    main()
