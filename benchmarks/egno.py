"""The equivariant graph neural operator on one thread: forward, training step, simulator, and a rollout for comparison.

    python benchmarks/egno.py [--quick] [--json FILE]

Milliseconds of CPU and of the clock in float32, next to a reimplementation on a list of edges with the same weights.
Nothing is timed before positions, gradients and frames agree. With a GPU, steps are timed there too.
"""

import math
import statistics
import time
from functools import partial

import numpy as np
import torch
from measuring import (
    SHORT,
    command_line,
    environment,
    keep_memory,
    matmul_rates,
    publish,
    table,
    wide_console,
    with_tasks,
)
from peers.egno import EdgeListEGNO, simulate_system
from torch.nn.functional import mse_loss

from loupe.data import DataError, load
from loupe.dynamics import (
    EGNN,
    EGNO,
    draw_charged,
    input_features,
    last_frames,
    rollout,
    simulate_charged,
    uniform_frames,
)
from loupe.networks.egnn import Graph

PACKAGES = ("torch", "numpy", "loupe")
CHARGES, RUN = "charges", "motion capture"
CASES = {  # systems in a batch, options of the network; aims in milliseconds, aim for the re-statement's step over ours
    CHARGES: (100, {"width": 64, "layers": 4, "modes": 2, "slices": 5}, {"forward": 45, "step": 110}, 2.0),
    RUN: (12, {"width": 128, "layers": 6, "modes": 2, "slices": 5}, {"step": 360}, 1.3),
}
SMALL = {"width": 16, "layers": 2}
# Without training some systems are thrown far away, and their digits with them: positions are compared over the size
# of their system, if it is above 1. Gradients are, over their length.
MOST = {
    torch.float32: {"of a system": 1e-4, "gradients": 1e-3},
    torch.float64: {"of a system": 1e-10, "gradients": 1e-10},
}
PARTICLES, SAVED = 5, 100  # particles of a system; steps of the simulator between two saved frames
START, WINDOW = 30, 10  # saved frames
RUN_WINDOW, HEIGHT = 30, 1  # frames; the upward coordinate

SIMULATED, STEPS = 1500, 4100
FEW_SYSTEMS, FEW_STEPS = 4, 200  # what the loop over systems is given
FRAME_ERROR = 1e-9
SIMULATOR_AIM, SIMULATOR_TARGET = 4.0, 50  # CPU seconds; systems a second over those of the loop

BATCHES, ROLLOUT_TARGET = (1, 10, 100), 1.5
ROUNDS, SHORT_ROUNDS = 9, 25
GPU_STEPS = 20  # between two waits for the GPU

OURS, RESTATED, ROLLOUT = "loupe", "re-statement", "rollout of an EGNN"


# ---- time


def both_clocks(functions, rounds):
    """Milliseconds (CPU, clock) of each call: medians over rounds in which the functions take turns.

    As :func:`measuring.milliseconds`, which reads one clock only.
    """

    def sample(function, calls):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            function()
        cpu, wall = time.process_time() - begin_cpu, time.perf_counter() - begin
        return 1e3 * cpu / calls, 1e3 * wall / calls

    first = {name: sample(run, 1)[1] for name, run in functions.items()}
    found = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            found[name].append(sample(run, math.ceil(1e3 * SHORT / first[name])))
    return {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}


# ---- problems


def charged_systems(count, slices):
    """Positions and velocities in frame 30, products of charges, positions in frames up to 40, and the graph."""
    positions, velocities, charges = draw_charged(count, PARTICLES)
    frames = simulate_charged(positions, velocities, charges, steps=SAVED * (START + WINDOW + 1) + 1)
    graph = Graph.complete(count, PARTICLES)
    row, col = graph.edges
    charges = charges.flatten().float()
    x, v = (each[:, START].flatten(0, 1).float() for each in frames)
    target = frames[0][:, uniform_frames(START, WINDOW, slices)].transpose(0, 1).flatten(1, 2).float()
    return x, v, target, graph, None, charges[row] * charges[col]


def runners(count, slices):
    """The same of a person who runs, with heights of joints; edges are known as bones, 1, or as two bones on end, 2."""
    motion = load("cmu09_run")
    apart = bone_distances(motion.bones, len(motion.joints))
    edges = torch.from_numpy(np.stack(np.nonzero(apart)))
    graph = Graph.repeated(edges, len(motion.joints), count)
    starts = [(trial, start) for trial, frames in motion.starts["train"].items() for start in frames]
    starts = starts[:: len(starts) // count][:count]
    x, v, target = [], [], []
    for trial, start in starts:
        frames = torch.from_numpy(motion.trials[trial])
        x.append(frames[start])
        v.append(frames[start + 1] - frames[start])
        target.append(frames[last_frames(start, RUN_WINDOW, slices)])
    x, v, target = torch.cat(x), torch.cat(v), torch.cat(target, dim=1)
    kinds = torch.from_numpy(apart[tuple(edges.numpy())]).float().repeat(count)
    return x, v, target, graph, x[:, HEIGHT], kinds


def bone_distances(bones, joints):
    """1 for joints at the ends of a bone, 2 for two bones on end, 0 for others and for a joint and itself."""
    bone = np.zeros((joints, joints), dtype=np.int64)
    bone[bones[:, 0], bones[:, 1]] = bone[bones[:, 1], bones[:, 0]] = 1
    two = (bone @ bone > 0) & (bone == 0) & ~np.eye(joints, dtype=bool)
    return bone + 2 * two


PROBLEMS = {CHARGES: charged_systems, RUN: runners}


class Training:
    """A network in training on one batch, by either way."""

    def __init__(self, problem, options, *, device="cpu", dtype=torch.float32):
        x, v, target, graph, node_values, edge_values = problem
        self.x, self.v, self.target = (each.to(device, dtype) for each in (x, v, target))
        self.graph = graph.to(device)
        largest = 1.0 if node_values is None else node_values.abs().max().item()
        node_values, edge_values = (None if k is None else k.to(device) for k in (node_values, edge_values))
        self.features, self.edge_features = input_features(
            self.x, self.v, self.graph, node_values, edge_values, largest=largest
        )
        ours = EGNO(self.features.shape[1], self.edge_features.shape[1], **options).to(device, dtype)
        self.ways = {OURS: ours, RESTATED: EdgeListEGNO(ours, self.graph).to(device, dtype)}
        self.optimizers = {
            way: torch.optim.Adam(network.parameters(), lr=1e-4) for way, network in self.ways.items()
        }

    def positions(self, way):
        """At all times."""
        if way == OURS:
            return self.ways[way](self.x, self.v, self.features, self.graph, self.edge_features)
        return self.ways[way](self.x, self.v, self.features, self.edge_features)

    def agreement(self):
        """Largest difference of positions, as it is and over the size of its system; of gradients, over their length.

        Stop where one of the last two is too large.
        """
        positions, gradients = {}, {}
        for way, network in self.ways.items():
            positions[way] = self.positions(way)
            loss = mse_loss(positions[way], self.target)
            found = torch.autograd.grad(
                loss, [*network.parameters()], allow_unused=True, materialize_grads=True
            )
            names = [name for name, _ in network.named_parameters()]
            gradients[way] = dict(zip(names, found, strict=True))
        systems = [each.detach().unflatten(1, (self.graph.graphs, -1)) for each in positions.values()]
        differences = (systems[0] - systems[1]).abs().amax((0, 2, 3))
        sizes = systems[1].abs().amax((0, 2, 3)).clamp(min=1)
        one, other = (torch.cat([gradients[way][name].flatten() for name in names]) for way in self.ways)
        found = {
            "positions": differences.max().item(),
            "of a system": (differences / sizes).max().item(),
            "gradients": ((one - other).norm() / other.norm()).item(),
        }
        for name, most in MOST[self.x.dtype].items():
            assert found[name] < most, f"{self.x.dtype}: {name} differ by {found[name]:.1e}"
        return found

    @torch.inference_mode()
    def forward(self, way):
        """Positions, without a way back."""
        return self.positions(way)

    def step(self, way):
        """Forward, backward, Adam."""
        self.optimizers[way].zero_grad()
        mse_loss(self.positions(way), self.target).backward()
        self.optimizers[way].step()


# ---- networks


def network_rows(cases, rounds, small=False):
    """Forwards and training steps of both ways, once they agree."""
    for case, (count, options, aims, target) in cases.items():
        options = options | SMALL if small else options
        problem = PROBLEMS[case](count, options["slices"])
        exact = Training(problem, options, dtype=torch.float64).agreement()
        training = Training(problem, options)
        difference = training.agreement()
        runs = {(way, "forward"): partial(training.forward, way) for way in training.ways}
        runs |= {(way, "step"): partial(training.step, way) for way in training.ways}
        times = both_clocks(runs, rounds)
        nodes = training.graph.nodes // count
        for (way, part), (cpu, wall) in times.items():
            row = {
                "case": case,
                "B, N, P, H, L, I": [
                    count,
                    nodes,
                    *(options[k] for k in ("slices", "width", "layers", "modes")),
                ],
                "part": part,
                "method": way,
                "CPU ms": cpu,
                "wall ms": wall,
                "CPU, times ours": cpu / times[OURS, part][0],
                "largest difference": difference["positions"],
                "of its system": difference["of a system"],
                "in float64": exact["of a system"],
                "of gradients": difference["gradients"],
            }
            if way == OURS and part in aims and not small:
                row["aim, ms"] = aims[part]
            if way == RESTATED and part == "step" and not small:
                row["aim, times ours"] = target
            yield row


def forward_flops(options, nodes, edges, known):
    """Floating-point operations of a forward's products: ours as formed, all of a list of edges, and their hot spots.

    Two for each multiplication. Hot spots are the maps of messages and those of features along time.
    """
    P, H, L, modes = (options[name] for name in ("slices", "width", "layers", "modes"))
    rows, pairs = P * nodes, P * edges
    after = pairs * (2 * H * H + H) + rows * (
        4 * H * H + H
    )  # the other maps of messages, then those of nodes
    ours = pairs * (known + 1) * H + 2 * rows * H * H + after + (4 * modes - 3) * nodes * H * H
    theirs = pairs * (2 * H + known + 1) * H + after + 4 * modes * nodes * H * H
    hot = pairs * (2 * H + known + 1) * H + pairs * H * H + 4 * modes * nodes * H * H
    return {OURS: 2 * L * ours, RESTATED: 2 * L * theirs, "hot spots": 2 * L * hot}


def products_of_a_step(options, nodes, edges):
    """Sizes of matrix products for :func:`measuring.matmul_rates`: a large one, and those that a step is full of."""
    H, P = options["width"], options["slices"]
    return {
        "1024": (1024, 1024, 1024),
        "edges of a slice": (edges, H, H),
        "their gradient": (H, edges, H),
        "nodes": (P * nodes, H, H),
    }


def product_rows(rows, rounds, small=False):
    """What share of the machine's rate of products a training step on charges reaches, which has three forward of them."""
    count, options, _, _ = CASES[CHARGES]
    options = options | SMALL if small else options
    nodes = count * PARTICLES
    edges = nodes * (PARTICLES - 1)
    rates = matmul_rates(products_of_a_step(options, nodes, edges), rounds)
    flops = forward_flops(options, nodes, edges, known=2)
    for row in rows:
        if row["case"] == CHARGES and row["part"] == "step":
            speed = 3 * flops[row["method"]] / row["CPU ms"] / 1e6
            yield {
                "method": row["method"],
                "GFLOP of a step": 3 * flops[row["method"]] / 1e9,
                "hot spots, edge list": 3 * flops["hot spots"] / 1e9,
                "CPU ms": row["CPU ms"],
                "GFLOP/s": speed,
                **{f"GFLOP/s, {name}": rate for name, rate in rates.items()},
                "of a large product": speed / rates["1024"],
                "of the edges' product": speed / rates["edges of a slice"],
            }


# ---- one forward or several


def rollout_rows(batches, rounds, small=False):
    """One forward of the operator for all times, and as many of a network that says the next one."""
    _, options, _, _ = CASES[CHARGES]
    options = options | SMALL if small else options
    slices, sizes = options["slices"], {name: options[name] for name in ("width", "layers")}
    operator, network = EGNO(1, 2, **options), EGNN(1, 2, **sizes)
    with torch.no_grad():  # without training, one step after another would lead out of the numbers
        for layer in network.layers:
            for head in (layer.position[-1], layer.velocity[-1]):
                head.weight *= 0.01
                head.bias *= 0.01
    for count in batches:
        x, v, _, graph, _, products = charged_systems(count, slices)
        known = partial(input_features, graph=graph, edge_values=products)

        @torch.inference_mode()
        def at_once(x=x, v=v, graph=graph, known=known):
            features, edge_features = known(x, v)
            return operator(x, v, features, graph, edge_features)

        @torch.inference_mode()
        def one_by_one(x=x, v=v, graph=graph, known=known):
            return rollout(network, x, v, slices, known, graph, duration=SAVED * 1e-3 * WINDOW / slices)

        runs = {OURS: at_once, ROLLOUT: one_by_one}
        for name, run in runs.items():
            found = run()
            assert found.shape == (slices, graph.nodes, 3), f"{name}: not all times are there"
            assert found.isfinite().all(), f"{name}: not finite"
        times = both_clocks(runs, rounds)
        for name, (cpu, wall) in times.items():
            row = {
                "systems": count,
                "times decoded": slices,
                "method": name,
                "CPU ms": cpu,
                "wall ms": wall,
                "CPU, times ours": cpu / times[OURS][0],
                "wall, times ours": wall / times[OURS][1],
            }
            yield row | ({"aim, times ours": ROLLOUT_TARGET} if name == ROLLOUT and not small else {})


# ---- the simulator


def simulator_rows(systems, steps, rounds):
    """Systems a second of the simulator, and of a loop over systems, from a few of them and fewer steps."""
    states = draw_charged(systems, PARTICLES)
    few = [each[:FEW_SYSTEMS].numpy() for each in states]

    def ours():
        return simulate_charged(*states, steps=steps + 1, save_every=SAVED)

    def loop(steps=FEW_STEPS):
        return np.stack(
            [simulate_system(*one, steps=steps + 1, save_every=SAVED) for one in zip(*few, strict=True)]
        )

    # Encounters are chaotic: one saved frame is compared, and no long trajectory.
    right = simulate_charged(*few, steps=SAVED + 1, save_every=SAVED)[0]
    difference = np.abs(loop(SAVED) - right.numpy()).max().item()
    assert difference < FRAME_ERROR, f"frames differ by {difference:.1e}"
    times = both_clocks({OURS: ours, RESTATED: loop}, rounds)
    sizes = {OURS: (systems, steps), RESTATED: (FEW_SYSTEMS, FEW_STEPS)}
    seconds = {
        name: tuple(each / 1e3 * systems * steps / math.prod(sizes[name]) for each in found)
        for name, found in times.items()
    }
    for name, (cpu, wall) in seconds.items():
        row = {
            "systems": systems,
            "steps": steps,
            "method": name,
            "measured systems, steps": list(sizes[name]),
            "extrapolated": "no" if sizes[name] == (systems, steps) else "yes",
            "CPU seconds": cpu,
            "wall seconds": wall,
            "systems a CPU-second": systems / cpu,
            "CPU, times ours": cpu / seconds[OURS][0],
            "largest difference": difference,
        }
        yield row | (
            {"aim, seconds": SIMULATOR_AIM} if name == OURS else {"aim, times ours": SIMULATOR_TARGET}
        )


# ---- a GPU


def gpu_rows(rounds, small=False):
    """Training steps of both ways on a GPU, plain and compiled; there all is a matter of how kernels are launched."""
    count, options, _, _ = CASES[CHARGES]
    options = options | SMALL if small else options
    problem = charged_systems(count, options["slices"])
    runs = {}
    for kind in ("plain", "compiled"):
        training = Training(problem, options, device="cuda")
        training.agreement()
        for way, network in training.ways.items():
            if kind == "compiled":
                network.compile()

            def steps(training=training, way=way):
                for _ in range(GPU_STEPS):
                    training.step(way)
                torch.cuda.synchronize()

            steps()  # compiles
            runs[way, kind] = steps
    times = both_clocks(runs, rounds)
    for (way, kind), (_, wall) in times.items():
        yield {
            "case": CHARGES,
            "method": way,
            "kind": kind,
            "step, wall ms": wall / GPU_STEPS,
            "steps a second": 1e3 * GPU_STEPS / wall,
            "wall, times ours": wall / times[OURS, kind][1],
        }


# ---- all of it


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    quick, console = options.quick, wide_console()
    rounds, short_rounds = (1, 1) if quick else (ROUNDS, SHORT_ROUNDS)
    networks = list(network_rows({CHARGES: CASES[CHARGES]}, rounds, quick))
    try:
        networks += network_rows({RUN: CASES[RUN]}, rounds, quick)
    except DataError as error:
        console.print(f"Motion capture is left out: {error}")
    tables = {
        "Networks": networks,
        "Products in a training step": list(product_rows(networks, short_rounds, quick)),
        "One forward, or a rollout": list(
            rollout_rows(BATCHES[:2] if quick else BATCHES, short_rounds, quick)
        ),
        "The simulator": list(simulator_rows(*((20, FEW_STEPS) if quick else (SIMULATED, STEPS)), rounds)),
    }
    if torch.cuda.is_available():
        tables["A training step on a GPU"] = list(gpu_rows(short_rounds, quick))
    for title, rows in tables.items():
        console.print(table(f"{title}: one thread, medians", rows))
    about = environment(
        PACKAGES,
        device="cuda" if torch.cuda.is_available() else "cpu",
        kept=kept,
        others={"precision": "float32; the simulator float64"},
    )
    publish(console, about, with_tasks(tables), options.json)


if __name__ == "__main__":
    main()
