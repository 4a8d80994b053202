"""Diffusion bridges on one thread: what the sampler adds to a denoiser, and the share of the loss in training a U-Net.

    python benchmarks/ddbm.py [--quick] [--json FILE]

CPU milliseconds in float32 with given noise, compared with a re-statement of the published sampler, which computes its
schedule again in each evaluation and stores the path. Nothing is timed before both agree in float64.
"""

import math
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
from peers.ddbm import sample

from loupe.diffusion.bridges import (
    GaussianPair,
    Preconditioning,
    VEBridge,
    VPBridge,
    bridge_loss,
    bridge_sample,
)
from loupe.networks.unet import make_unet

PACKAGES = ("torch", "loupe")
SHAPES = ((16, 3, 64, 64), (64, 3, 32, 32))
STEPS = 40
BRIDGES = {"VP": VPBridge(), "VE": VEBridge()}
CHURNS = (0.33, 0.0)
AGREE = 1e-6
NETWORK = {"channels": 2, "out_channels": 1, "width": 16, "multipliers": (1, 2, 2), "blocks": 1, "attention": (),
           "size": 16}  # fmt: skip
BATCH = 64
OURS, RESTATED = "loupe", "re-statement"


def random_numbers(seed=0):
    """A generator of its own for each task."""
    return torch.Generator().manual_seed(seed)


def samplers(kind, churn, y, noise):
    """Functions of a denoiser that return samples."""
    bridge, both = BRIDGES[kind], {"steps": STEPS, "churn": churn, "noise": noise}
    ends = {"last": bridge.t_max, "first": bridge.t_min}
    return {
        OURS: lambda denoiser: bridge_sample(denoiser, y, bridge, **both).samples,
        RESTATED: lambda denoiser: sample(denoiser, y, kind=kind, **ends, **both)[0],
    }


def check(kind, churn):
    """Both agree on Gaussian pairs, in float64."""
    y, *noise = torch.randn(STEPS + 1, 8, 3, generator=random_numbers(), dtype=torch.float64)
    denoiser = GaussianPair().denoiser(BRIDGES[kind])
    ours, theirs = (run(denoiser) for run in samplers(kind, churn, y, torch.stack(noise)).values())
    error = (ours - theirs).abs().max().item()
    assert error < AGREE, f"{kind}, churn {churn}: samples differ by {error:.1e}"


def traffic(churn):
    """Tensors read and written in all updates, each done in one pass: the limit of memory."""
    sde, euler, heun = 5 * bool(churn), 4, 5  # x, predictions, x_T and noise; one result
    return STEPS * (sde + euler + heun) - heun  # the last step is an Euler step


def sampler_rows(shapes, rounds):
    """Milliseconds of all steps with a denoiser that returns a ready tensor."""
    for shape in shapes:
        y, ready = torch.randn(2, *shape, generator=random_numbers())
        noise = torch.randn(STEPS, *shape, generator=random_numbers())
        into = torch.empty(shape)
        for kind in BRIDGES:
            for churn in CHURNS:
                check(kind, churn)
                runs = {
                    name: partial(run, lambda *at: ready)  # noqa: B023
                    for name, run in samplers(kind, churn, y, noise).items()
                }
                times = milliseconds(runs | {"copy": partial(into.copy_, y)}, rounds)
                limit = traffic(churn) * times["copy"] / 2  # a copy reads one and writes one
                for name in runs:
                    yield {
                        "shape": list(shape),
                        "bridge": kind,
                        "churn": churn,
                        "method": name,
                        "calls of the denoiser": (3 if churn else 2) * STEPS - 1,
                        "ms": times[name],
                        "times ours": times[name] / times[OURS],
                        "limit of memory, ms": limit,
                        "times limit": times[name] / limit,
                    }


def share_rows(rounds):
    """What drawing noise, the bridge's points, coefficients and the error take of a training step."""
    x0, x_T, output = torch.randn(3, BATCH, 1, 16, 16, generator=random_numbers())
    network, generator = make_unet(**NETWORK), random_numbers(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    output.requires_grad_()

    def model(x, x_T, c_noise):
        return network(torch.cat([x, x_T], 1), (4 * c_noise).exp())

    for kind, bridge in BRIDGES.items():
        preconditioning = Preconditioning(bridge)

        def loss(model, preconditioning=preconditioning):
            value = bridge_loss(model, x0, x_T, preconditioning, generator).mean()
            value.backward()
            return value.detach()

        def step(loss=loss):
            optimizer.zero_grad()
            assert math.isfinite(loss(model))
            optimizer.step()

        times = milliseconds({"loss": partial(loss, lambda *given: output), "step": step}, rounds)
        yield {
            "network": "grey, 16 × 16",
            "images in a batch": BATCH,
            "bridge": kind,
            "loss, ms": times["loss"],
            "step, ms": times["step"],
            "share of the loss": times["loss"] / times["step"],
        }


def main(arguments=None):
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    kept = keep_memory()
    rounds = 1 if options.quick else 9
    tables = {
        "The sampler": list(sampler_rows(SHAPES[1:] if options.quick else SHAPES, rounds)),
        "The loss in a training step": list(share_rows(rounds)),
    }
    console = wide_console()
    for title, rows in tables.items():
        console.print(table(f"{title}: CPU time, one thread, medians", rows))
    publish(console, environment(PACKAGES, kept=kept), with_tasks(tables), options.json)


if __name__ == "__main__":
    main()
