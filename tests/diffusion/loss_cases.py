"""What the tests of discrete diffusion's losses share."""

import pytest
import torch
from torch.nn.functional import one_hot

from loupe.diffusion.discrete import Absorbing, Uniform
from loupe.networks.transformer import Transformer

letters = pytest.mark.parametrize("graph", [Absorbing(27), Uniform(27)], ids=repr)
small = pytest.mark.parametrize("graph", [Absorbing(5), Uniform(5), Absorbing(2), Uniform(2)], ids=repr)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def case(graph, noise, shape=(6, 40), seed=0, dtype=torch.float64):
    """Clean and corrupted tokens, of which some of each kind, and a score of any values."""
    made = generator(seed)
    x0 = torch.randint(graph.tokens, shape, generator=made)
    x = graph.corrupt(x0, torch.as_tensor(noise), made)
    half = shape[1] // 2
    x[:, :half] = graph.mask if isinstance(graph, Absorbing) else (x0[:, :half] + 1) % graph.tokens
    return torch.randn(*shape, graph.states, generator=made, dtype=torch.float64).to(dtype), x, x0


def conditional_log_ratios(graph, noise, x, x0):
    """``log p(y | x0) / p(x | x0)``, from closed forms in float64."""
    noise = torch.as_tensor(noise, dtype=torch.float64)
    kept = one_hot(x0, graph.states) * (-noise).exp()
    if isinstance(graph, Absorbing):
        lost = one_hot(torch.full_like(x0, graph.tokens), graph.states) * -torch.expm1(-noise)
    else:
        lost = -torch.expm1(-noise) / graph.tokens
    logs = (kept + lost).log()
    return logs - logs.gather(-1, x.unsqueeze(-1))


def network(graph, *, seed=0, random=True, **options):
    made = Transformer(graph.states, **(dict(width=16, heads=2, blocks=2, condition=8, seed=seed) | options))
    if random:
        with torch.no_grad():
            for k, parameter in enumerate(made.parameters()):
                parameter.normal_(0, 0.3, generator=generator(seed + k))
    return made.double().eval()
