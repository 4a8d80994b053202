"""What tests of networks share: weights that are not what they start as, and layers by their equations in numpy."""

import numpy as np
import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def perturbed(module, scale=0.2):
    """The module in float64, its weights with noise of that size added: nothing is 0 or 1 any more."""
    module = module.double()
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter += scale * torch.randn(parameter.shape, generator=generator(k), dtype=torch.float64)
    return module


def silu(x):
    return x / (1 + np.exp(-x))


def array(tensor):
    return tensor.detach().numpy()


def chain(layers, x):
    """Linear maps and SiLU of a torch.nn.Sequential."""
    for layer in layers:
        linear = isinstance(layer, torch.nn.Linear)
        x = array(layer.weight) @ x + array(layer.bias) if linear else silu(x)
    return x


def egnn_layer_by_definition(layer, x, v, h, edges, known):
    """One slice, one edge after the other."""
    force, heard, degree = np.zeros_like(x), np.zeros_like(h), np.zeros(len(x))
    for (i, j), e in zip(edges.T, known, strict=True):
        distance = ((x[i] - x[j]) ** 2).sum()
        m = chain(layer.message, np.concatenate([[distance], h[i], h[j], e]))
        force[i] += (x[i] - x[j]) * chain(layer.position, m)
        heard[i] += m
        degree[i] += 1
    moved, new = np.empty_like(x), np.empty_like(h)
    for i in range(len(x)):
        shift = np.clip(force[i] / max(degree[i], 1), -100, 100)
        moved[i] = x[i] + chain(layer.velocity, h[i]) * v[i] + shift
        new[i] = chain(layer.feature, np.concatenate([h[i], heard[i]]))
    return moved, new
