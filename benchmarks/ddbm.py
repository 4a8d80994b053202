"""Denoising Diffusion Bridge Models: milliseconds of our method and of the alternative that a user would pick.

python benchmarks/ddbm.py [--quick] [--json FILE]
"""

import torch
from measuring import command_line, environment, milliseconds, publish, table, wide_console

PACKAGES = ("torch", "loupe")


def method_rows(sizes, rounds):
    """Replace the two by the chapter's method and its alternative; compare values before you measure times."""
    for size in sizes:
        x = torch.randn(size, size)
        methods = {"ours": lambda x=x: x @ x, "peer": lambda x=x: torch.einsum("ij,jk->ik", x, x)}
        torch.testing.assert_close(methods["ours"](), methods["peer"](), rtol=1e-4, atol=1e-3)
        for name, time in milliseconds(methods, rounds).items():
            yield {"size": size, "method": name, "milliseconds": time}


def main(arguments=None):
    """Measure, show, and optionally write."""
    options = command_line(__doc__, arguments)
    torch.set_num_threads(1)
    rows = list(method_rows((64,) if options.quick else (64, 512), 1 if options.quick else 5))
    console = wide_console()
    console.print(table("One thread", rows))
    publish(console, environment(PACKAGES), rows, options.json)


if __name__ == "__main__":
    main()
