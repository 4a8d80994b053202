"""Weighted Fréchet means in the Poincaré ball, forward and backward: CPU milliseconds on one thread, compared with five
peers.

    python benchmarks/frechet_mean.py [--quick] [--json FILE]

Gradients are for points, weights and curvature together. All methods stop at the same tolerance, and a method is timed
only if its mean and gradients agree with the others'. Needs the extra ``loupe[bench]``.
"""

import gc
from functools import partial

import torch
from measuring import (
    FEW,
    PEAKS,
    SLOW,
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
)
from peers.frechet_mean import (
    STEPS,
    geoopt_ball,
    gradient_descent,
    padding,
    restated_mean,
    unrolled_mean,
)

from loupe.data import DataError, load
from loupe.geometry import PoincareBall, frechet_mean, graph_frechet_mean

PACKAGES = ("torch", "geoopt", "loupe")
RADIUS, CURVATURE, WIDTH = 0.9, -1.0, 16
SIZES = (
    (2, 10, 10),
    (64, 10, 10),
    (256, 16, 16),
    (1024, 32, 16),
    (2, 1000, 10),
    (2, 10, 100),
    (512, 8, 64),
)
PATIENT = (
    (2, 10, 10),
    (64, 10, 10),
    (2, 1000, 10),
)  # sizes where gradient descent of step 0.01 is worth the wait
TELLING = ((1024, 32, 16), (512, 8, 64))  # sizes whose peak memory is measured
PRECISIONS = (torch.float64, torch.float32)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
MEAN_ERROR = {torch.float64: 1e-9, torch.float32: 1e-5}
GRADIENT_ERROR = {torch.float64: 1e-8, torch.float32: 1e-3}  # of the gradient's length
NEVER = 3000  # iterations after which a step size counts as too long or too short

OURS, RESTATED, UNROLLED = "loupe", "re-statement, explicit matrices", "autograd through the iterations"
PADDED = "re-statement, padded"


def numbers(shape, generator):
    """Uniform random numbers of float64 between 0 and 1."""
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def ball_points(shape, generator):
    """Points of uniform radius up to 0.9, in all directions."""
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return RADIUS * numbers((*shape[:-1], 1), generator) * x / x.norm(dim=-1, keepdim=True)


def ready(points, weights, dtype):
    """Points, weights and the curvature, all asking for gradients, and a cotangent."""
    inputs = [one.to(dtype).requires_grad_() for one in (points, weights, torch.tensor(CURVATURE))]
    generator = torch.Generator().manual_seed(1)
    nodes = points.shape[:1] if points.ndim == 2 else points.shape[:-2]
    cotangent = torch.randn(*nodes, points.shape[-1], generator=generator, dtype=torch.float64)
    return inputs, cotangent.to(dtype)


def batch(size, dtype):
    """A batch of problems of one size (B, n, d)."""
    generator = torch.Generator().manual_seed(0)
    return ready(ball_points(size, generator), 0.05 + numbers(size[:2], generator), dtype)


def cora(quick):
    """Message edges (2, E) of a graph, both ways and from each node to itself, by destination; the number of nodes."""
    if quick:
        nodes = 100
        undirected = torch.randint(nodes, (2, 200), generator=torch.Generator().manual_seed(0))
    else:
        graph = load("cora")
        nodes, undirected = int(graph.num_nodes), torch.as_tensor(graph.edges).long().T
    loops = torch.arange(nodes).expand(2, -1)
    edges = torch.cat([undirected, undirected.flip(0), loops], dim=1)
    return edges[:, edges[1].argsort(stable=True)].contiguous(), nodes


def graph_problem(edges, nodes, dtype):
    """Points of the nodes, weights of the edges."""
    generator = torch.Generator().manual_seed(0)
    points = ball_points((nodes, WIDTH), generator)
    return ready(points, 0.05 + numbers((edges.shape[1],), generator), dtype)


def batch_methods(tolerance):
    """Functions of (points, weights, curvature) that autograd can differentiate."""
    return {
        OURS: lambda x, w, k: frechet_mean(x, w, PoincareBall(curvature=k), tolerance=tolerance),
        RESTATED: lambda x, w, k: restated_mean(x, w, k, tolerance=tolerance),
        UNROLLED: lambda x, w, k: unrolled_mean(x, w, k, tolerance=tolerance),
    }


def graph_methods(edges, nodes, tolerance):
    """The same for the edges of a graph; rows of neighbors are prepared beforehand."""
    rows, present = padding(edges, nodes)

    def padded(points, weights, curvature):
        filled = weights.new_zeros(present.shape).masked_scatter(present, weights)
        # Absent neighbors lie at the origin and weigh nothing. The algorithm starts at the first, which is present.
        return restated_mean(points[rows] * present[..., None], filled, curvature, tolerance=tolerance)

    return {
        OURS: lambda x, w, k: graph_frechet_mean(x, edges, w, PoincareBall(curvature=k), tolerance=tolerance),
        PADDED: padded,
    }


def both_ways(method, problem):
    """Mean and gradients."""
    inputs, cotangent = problem
    mean = method(*inputs)
    return [one.detach().double() for one in (mean, *torch.autograd.grad(mean, inputs, cotangent))]


def check(name, found, right, dtype):
    """The error of the mean; and an end to all timing where it, or that of a gradient, is too large."""
    gradients = [
        ((one - other).norm() / other.norm()).item() for one, other in zip(found[1:], right[1:], strict=True)
    ]
    worst = (found[0] - right[0]).norm(dim=-1).max().item()
    assert worst < MEAN_ERROR[dtype], f"{name}: the mean is off by {worst:.1e}"
    assert all(error < GRADIENT_ERROR[dtype] for error in gradients), (
        f"{name}: gradients are off: {gradients}"
    )
    return worst


def forward_and_backward(methods, problem, rounds):
    """Milliseconds of each method forward and backward, a pair for each."""
    inputs, cotangent = problem
    forward = milliseconds({name: lambda run=run: run(*inputs) for name, run in methods.items()}, rounds)
    backward = {}
    for name, run in methods.items():  # one graph at a time: some are large
        mean = run(*inputs)

        def back(mean=mean):
            return torch.autograd.grad(mean, inputs, cotangent, retain_graph=True)

        backward |= milliseconds({name: back}, rounds)
        del mean, back
        gc.collect()
    return {name: (forward[name], backward[name]) for name in methods}


def measured_rows(row, methods, problem, dtype, rounds):
    """Check and time methods that have gradients; ours is the first."""
    tighter = [[one.detach().double().requires_grad_() for one in problem[0]], problem[1].double()]
    right = both_ways(row.pop("exact"), tighter)
    errors = {name: check(name, both_ways(run, problem), right, dtype) for name, run in methods.items()}
    times = forward_and_backward(methods, problem, rounds)
    for name, (forward, backward) in times.items():
        yield row | {
            "method": name,
            "forward, ms": forward,
            "backward, ms": backward,
            "forward, times ours": forward / times[OURS][0],
            "backward, times ours": backward / times[OURS][1],
            "error": errors[name],
        }


def tuned(points, weights, ball, tolerance):
    """The step size that takes the fewest iterations, or None."""
    best, fewest = None, NEVER
    for step in sorted(
        STEPS, key=lambda step: abs(step - 0.3)
    ):  # the likely ones first: others stop at their count
        _, iterations = gradient_descent(
            points, weights, ball, step, tolerance=tolerance, max_iterations=fewest
        )
        if iterations < fewest:
            best, fewest = step, iterations
    return best


def descent_rows(row, problem, right, ours, size, dtype, rounds):
    """Karcher's flow and gradient descent on geoopt's ball: forward only."""
    points, weights = (one.detach() for one in problem[0][:2])
    ball, tolerance = geoopt_ball(CURVATURE, dtype), TOLERANCE[dtype]
    best = tuned(points, weights, ball, tolerance)
    steps = {"Karcher flow (geoopt)": 0.5}
    if best is not None:
        steps[f"gradient descent, tuned step {best:g} (geoopt)"] = best
    if size in PATIENT:
        steps["gradient descent, step 0.01 (geoopt)"] = 0.01
    runs = {
        name: lambda step=step: gradient_descent(
            points, weights, ball, step, tolerance=tolerance, max_iterations=NEVER
        )
        for name, step in steps.items()
    }
    counts, errors = {}, {}
    for name, run in list(runs.items()):
        mean, counts[name] = run()
        errors[name] = (mean.double() - right).norm(dim=-1).max().item()
        if counts[name] == NEVER:
            yield row | {"method": f"{name}: not there after {NEVER} iterations", "error": errors[name]}
            del runs[name]
        else:
            assert errors[name] < MEAN_ERROR[dtype], f"{name}: the mean is off by {errors[name]:.1e}"
    for name, forward in milliseconds(runs, rounds).items():
        yield row | {
            "method": name,
            "forward, ms": forward,
            "forward, times ours": forward / ours,
            "iterations": counts[name],
            "error": errors[name],
        }


def batch_rows(sizes, rounds):
    """Batches of means of every size, in both precisions."""
    exact = batch_methods(1e-15)[RESTATED]
    for size in sizes:
        for dtype in PRECISIONS:
            problem = batch(size, dtype)
            row = {"task": "means", "size": list(size), "precision": name_of(dtype)}
            rows = list(
                measured_rows(row | {"exact": exact}, batch_methods(TOLERANCE[dtype]), problem, dtype, rounds)
            )
            yield from rows
            with torch.no_grad():
                right = exact(*[one.detach().double() for one in problem[0]])
            yield from descent_rows(row, problem, right, rows[0]["forward, ms"], size, dtype, rounds)


def graph_rows(quick, rounds):
    """One mean at every node of a graph, of its neighbors and itself."""
    edges, nodes = cora(quick)
    for dtype in PRECISIONS:
        row = {
            "task": "a small graph" if quick else "Cora",
            "size": [nodes, edges.shape[1], WIDTH],
            "precision": name_of(dtype),
            "exact": graph_methods(edges, nodes, 1e-15)[PADDED],
        }
        methods = graph_methods(edges, nodes, TOLERANCE[dtype])
        yield from measured_rows(row, methods, graph_problem(edges, nodes, dtype), dtype, rounds)


def peak_memory(size, method, dtype):
    """MiB that a forward and a backward pass need beyond their input, in this fresh process."""
    torch.set_num_threads(1)
    for run in batch_methods(TOLERANCE[dtype]).values():
        both_ways(run, batch((2, 3, 2), dtype))  # what is loaded once
    if size is None:
        edges, nodes = cora(False)
        run, problem = (
            graph_methods(edges, nodes, TOLERANCE[dtype])[method],
            graph_problem(edges, nodes, dtype),
        )
    else:
        run, problem = batch_methods(TOLERANCE[dtype])[method], batch(size, dtype)
    return peak_bytes(partial(both_ways, run, problem)) / 2**20


def add_memory(rows):
    """Measure the peak memory of the rows where it tells something, each in a process of its own."""
    if not PEAKS.exists():
        return
    for row in rows:
        size = None if row["task"] == "Cora" else tuple(row["size"])
        if "backward, ms" in row and (size is None or size in TELLING):
            dtype = getattr(torch, row["precision"])
            row["peak, MiB"] = in_fresh_process(peak_memory, size, row["method"], dtype)


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    console = wide_console()
    rounds = 1 if options.quick else 7
    rows = list(batch_rows(SIZES[:1] if options.quick else SIZES, rounds))
    try:
        rows += graph_rows(options.quick, rounds)
    except DataError as error:
        console.print(f"Cora is left out: {error}")
    if not options.quick:
        add_memory(rows)
    console.print(
        table(
            f"CPU time, one thread, median of {rounds} ({FEW} beyond {SLOW:g} s). "
            "Sizes: B, n, d; or nodes, edges, d",
            rows,
        )
    )
    console.print(
        f"Gradient descent of step 0.01 runs only at {', '.join(map(str, PATIENT))}: elsewhere it takes minutes."
    )
    settings = {
        "tolerance": {name_of(dtype): tolerance for dtype, tolerance in TOLERANCE.items()},
        "largest radius": RADIUS,
        "curvature": CURVATURE,
    }
    publish(console, environment(PACKAGES, kept=kept, others=settings), rows, options.json)


if __name__ == "__main__":
    main()
