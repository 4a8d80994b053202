"""Heat kernels on one thread: exact samples and scores of a training batch, and how accurate they are.

    python benchmarks/riemannian_diffusion.py [--quick] [--json FILE]

CPU milliseconds in float32 for one sample and one score of each of 512 points, with sigma log-uniform over the training
range, compared with a re-statement of the published routes. The reference of errors is ours in float64, which the tests
compare with multiprecision. The limit is drawing the normal numbers, and reading and writing the points. geomstats
2.8, which needs no torch, has no heat kernel to compare with.
"""

from functools import partial

import torch
from measuring import (
    command_line,
    environment,
    keep_memory,
    milliseconds,
    publish,
    table,
    wide_console,
    with_tasks,
)
from peers.riemannian_diffusion import routes

from loupe.diffusion.riemannian import HeatKernel
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere

PACKAGES = ("torch", "loupe")
BATCH = 512
OURS, RESTATED = "loupe", "re-statement"
SPACES = {  # smallest and largest sigma, and the first eigenvalue
    "S^2": (Sphere(2), 1e-3, 4.0, 2.0),
    "SO(3)": (SpecialOrthogonal(3), 1e-3, 4.0, 2.0),
    "S^127": (Sphere(127), 1e-3, 0.6, 127.0),
    "SU(3)": (SpecialUnitary(3), 1e-2, 3.0, 8 / 3),
}


def random_numbers(seed=0):
    """A generator of its own for each task."""
    return torch.Generator().manual_seed(seed)


def batch(name, seed=0):
    """Data, and sigmas."""
    space, low, high, _ = SPACES[name]
    x0 = space.random(BATCH, *space.event_shape, generator=random_numbers(seed))
    share = torch.rand(BATCH, generator=random_numbers(seed + 1))
    return x0, low * (high / low) ** share


def methods(name):
    """Samplers and scores."""
    kernel = HeatKernel(SPACES[name][0])
    return {OURS: (kernel.sample, kernel.score), RESTATED: routes()[name]}


def limit(name):
    """Draws the normal numbers, and reads and writes points twice."""
    space = SPACES[name][0]
    x0, _ = batch(name)
    normals, into = torch.empty(BATCH, 1 + space.dimension_like(x0)), torch.empty_like(x0)
    generator = random_numbers()

    def run():
        normals.normal_(generator=generator)
        into.copy_(x0)
        into.copy_(x0)

    return run


def accuracy_rows(rounds):
    """Errors of scores at exact samples, and by how many standard errors the first eigenfunction's mean is off."""
    for name, (space, *_, eigenvalue) in SPACES.items():
        x0, sigma = batch(name)
        kernel = HeatKernel(space)
        x = kernel.sample(x0, sigma, random_numbers(2))
        exact = kernel.score(*(p.to(torch.promote_types(p.dtype, torch.float64)) for p in (x, x0)), sigma)
        for method, (sample, score) in methods(name).items():
            error = space.norm(x, score(x, x0, sigma) - exact) / space.norm(x, exact)
            gaps = []
            for seed in range(rounds):
                start, scale = batch(name, 10 + 2 * seed)
                product = (sample(start, scale, random_numbers(seed)).conj() * start).real
                mean = product.flatten(1).sum(-1) / (1 if space.ndim == 1 else 3)
                gaps.append(mean - torch.exp(-eigenvalue * scale**2 / 2))
            gaps = torch.cat(gaps)
            yield {
                "space": name,
                "method": method,
                "median error of the score": error.nanmedian().item(),
                "mean error of the score": error.mean().item(),
                "share beyond 1e-2": (~(error < 1e-2)).float().mean().item(),
                "mean of the samples, standard errors off": (
                    gaps.mean() / gaps.std() * len(gaps) ** 0.5
                ).item(),
            }


def time_rows(rounds):
    """Milliseconds of a sample and its score for each point of the batch."""
    for name in SPACES:
        x0, sigma = batch(name)
        generator = random_numbers(3)

        def run(sample, score, x0=x0, sigma=sigma, generator=generator):
            return score(sample(x0, sigma, generator), x0, sigma)

        runs = {method: partial(run, *pair) for method, pair in methods(name).items()}
        with torch.no_grad():
            times = milliseconds(runs | {"limit": limit(name)}, rounds)
        for method in runs:
            yield {
                "space": name,
                "batch": BATCH,
                "sigma": list(SPACES[name][1:3]),
                "method": method,
                "ms": times[method],
                "times ours": times[method] / times[OURS],
                "limit, ms": times["limit"],
                "times limit": times[method] / times["limit"],
            }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    tables = {
        "Accuracy": list(accuracy_rows(2 if options.quick else 20)),
        "A sample and its score": list(time_rows(1 if options.quick else 9)),
    }
    for row in tables["Accuracy"]:
        if row["method"] == OURS:
            off = row["mean of the samples, standard errors off"]
            assert row["share beyond 1e-2"] == 0, f"{row['space']}: scores are off"
            assert abs(off) < 4, f"{row['space']}: samples are off by {off:.1f} standard errors"
    console = wide_console()
    for title, rows in tables.items():
        console.print(table(f"{title}: CPU time, one thread, medians" if "sample" in title else title, rows))
    publish(console, environment(PACKAGES, kept=kept), with_tasks(tables), options.json)


if __name__ == "__main__":
    main()
