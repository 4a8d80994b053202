"""Trajectories of interacting points in one pass: the equivariant graph neural operator and what it is compared with.

After Xu, Han, Lou, Kossaifi, Ramanathan, Azizzadenesheli, Leskovec, Ermon and Anandkumar, Equivariant Graph Neural
Operator for Modeling 3D Dynamics, 2024.

A window of the future is cut at P times. All networks take the state now, positions and velocities ``[n, 3]``, and
return positions ``[P, n, 3]`` at these times; those that know the end only have P = 1.
"""

import math
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import leaky_relu, linear

from loupe.checks import of_shape, whole
from loupe.networks.egnn import (
    LARGEST_SHIFT,
    EGNNLayer,
    check_sizes,
    fold_edge_features,
    perceptron,
)

LONGEST_WAVE = 10_000
SLOPE = 0.01
LARGEST_EXPLICIT = 16, 3  # slices and modes: beyond these the fast transform is the faster one
CONVOLVED = ("invariants", "vectors")
TIME_COORDS = ("index", "physical")


class States(NamedTuple):
    """What a network says of the window: positions and velocities ``[P, n, 3]``, invariant features ``[P, n, H]``."""

    positions: torch.Tensor
    velocities: torch.Tensor
    features: torch.Tensor | None


# ---- along time


def time_embedding(tau, dim=32):
    """Sines of times, then cosines, at falling frequencies: section 3 of the paper.

    Parameters
    ----------
    tau : torch.Tensor
        Times ``(P,)``.
    dim : int
        At least 2; an odd one is filled with a 0.

    Returns
    -------
    torch.Tensor
        float64 ``(P, dim)``.

    Raises
    ------
    ValueError
        If there are fewer than two coordinates.

    Examples
    --------
    >>> time_embedding(torch.zeros(1), 4)
    tensor([[0., 0., 1., 1.]], dtype=torch.float64)
    """
    dim = whole("dim", dim, 2)
    half = dim // 2
    index = torch.arange(half, device=tau.device, dtype=torch.float64)
    waves = torch.exp(-math.log(LONGEST_WAVE) / max(half - 1, 1) * index)
    angles = tau.double().unsqueeze(1) * waves
    return torch.cat([angles.sin(), angles.cos(), angles.new_zeros(len(angles), dim % 2)], dim=1)


class TemporalConvolution(nn.Module):
    """Circular convolution along time, by its lowest frequencies; added to what came in.

    Each frequency ``k < modes`` has a complex matrix that mixes channels; others are left out. Invariant features pass a
    leaky ReLU before they are added. Vectors do not: their matrices are the same for the three coordinates and nothing
    else touches these, so that rotating commutes with it.

    The imaginary part of frequency 0, and of the highest one where P is even, has no effect and gets no gradient: the
    inverse transform to real values ignores it.

    Parameters
    ----------
    channels : int
        Channels that are mixed: coordinates of features, or 2 for positions and velocities.
    modes : int
        Frequencies kept, at most P // 2 + 1.
    vectors : bool
        Whether these are vectors.

    Notes
    -----
    Real and imaginary parts start uniform in [0, 1) / channels^2, of vectors in [0, 0.1). They are not centred.

    Few slices and frequencies are transformed by explicit matrices, others by the fast Fourier transform.
    """

    def __init__(self, channels, modes, *, vectors=False):
        super().__init__()
        channels, modes = check_sizes(channels=channels, modes=modes)
        self.modes, self.vectors = modes, vectors
        scale = 0.1 if vectors else 1 / channels**2
        self.weight = nn.Parameter(scale * torch.rand(channels, channels, modes, 2))
        self._matrices = {}

    def forward(self, z):
        """``z [P, ..., C]`` to the same shape: features ``[P, n, H]`` or vectors ``[P, n, 3, 2]``.

        Raises
        ------
        ValueError
            If P slices have fewer frequencies than there are modes.
        """
        check_modes(self.modes, len(z))
        convolved = self.convolved(z)
        return z + (convolved if self.vectors else leaky_relu(convolved, SLOPE))

    def convolved(self, z):
        """What is added to ``z``, before the leaky ReLU."""
        slices, modes = LARGEST_EXPLICIT
        return self.by_matrices(z) if len(z) <= slices and self.modes <= modes else self.by_fft(z)

    def by_fft(self, z):
        """:meth:`convolved` by the fast Fourier transform; of half precision, in single."""
        P, C, wide = len(z), z.shape[-1], working_dtype(z)
        modes = torch.fft.rfft(z.reshape(P, -1, C).to(wide), dim=0)[: self.modes]
        mixed = torch.bmm(modes, torch.view_as_complex(self.weight.to(wide)).permute(2, 0, 1))
        return torch.fft.irfft(mixed, n=P, dim=0).view(z.shape).to(z.dtype)

    def by_matrices(self, z):
        """:meth:`convolved` by explicit matrices, in which the signs of complex products are contained."""
        P, C, wide = len(z), z.shape[-1], working_dtype(z)
        analysis, parts, synthesis = self._dft(P, wide, z.device)
        modes = (analysis @ z.reshape(P, -1).to(wide)).view(len(analysis), -1, C)
        weights = self.weight.to(wide).permute(2, 3, 0, 1).flatten(0, 1).index_select(0, parts)
        mixed = torch.bmm(modes, weights).view(len(analysis), -1)
        return (synthesis @ mixed).view(z.shape).to(z.dtype)

    def _dft(self, P, dtype, device):
        key = P, dtype, device
        if key not in self._matrices:
            with torch.inference_mode(False):  # tensors made in inference mode cannot be trained with
                analysis, parts, synthesis = dft_matrices(P, self.modes)
                analysis, synthesis = (matrix.to(device, dtype) for matrix in (analysis, synthesis))
                self._matrices = {
                    key: (analysis, parts.to(device), synthesis)
                }  # one shape at a time is enough
        return self._matrices[key]


def dft_matrices(P, modes):
    """A real transform of length P, a product with complex weights and the inverse transform, as a sum of products.

    Returns
    -------
    analysis : torch.Tensor
        float64 ``(K, P)``: a row for each product of a real or imaginary part of a frequency and of its weight.
    parts : torch.Tensor
        int64 ``(K,)``: 2 k for the real and 2 k + 1 for the imaginary part of the weight of frequency k.
    synthesis : torch.Tensor
        float64 ``(P, K)``.
    """
    analysis, parts, synthesis = [], [], []
    for k in range(modes):
        # Whole turns taken off in integers: cosines of large angles would lose digits.
        angles = [2 * math.pi / P * (k * p % P) for p in range(P)]
        cosine, minus_sine = [math.cos(angle) for angle in angles], [-math.sin(angle) for angle in angles]
        if k == 0 or 2 * k == P:
            analysis.append(cosine)
            parts.append(2 * k)
            synthesis.append([c / P for c in cosine])
        else:
            analysis += [cosine, cosine, minus_sine, minus_sine]
            parts += [2 * k, 2 * k + 1, 2 * k + 1, 2 * k]
            back = [2 / P * c for c in cosine], [2 / P * s for s in minus_sine]
            synthesis += [back[0], back[1], [-c for c in back[0]], back[1]]
    analysis, synthesis = (torch.tensor(m, dtype=torch.float64) for m in (analysis, synthesis))
    return analysis, torch.tensor(parts), synthesis.T.contiguous()


def working_dtype(z):
    """The dtype of ``z``, single in place of half precision."""
    return torch.float32 if z.dtype in (torch.float16, torch.bfloat16) else z.dtype


def check_modes(modes, slices):
    """ValueError if that many time slices have fewer frequencies than there are modes."""
    if modes > slices // 2 + 1:
        raise ValueError(
            f"modes={modes} are more than the frequencies of {slices} slices: at most {slices // 2 + 1} can be kept"
        )


# ---- what networks are told


def input_features(x0, v0, graph, node_values=None, edge_values=None, *, largest=1.0):
    """Invariant features of the state now: of nodes the speed, of edges the squared distance, and what else is known.

    Parameters
    ----------
    x0, v0 : torch.Tensor
        Positions and velocities ``[n, 3]``.
    graph : loupe.networks.egnn.Graph
    node_values : torch.Tensor, optional
        ``[n]`` or ``[n, k]``, such as atomic numbers; they follow the speed.
    edge_values : torch.Tensor, optional
        ``[m]`` or ``[m, k]``, such as products of charges; they come before the squared distance.
    largest : float or torch.Tensor
        What ``node_values`` are divided by, one number or k. A fixed one: over the largest of a batch, what is predicted
        for a system would depend on its company.

    Returns
    -------
    features, edge_features : torch.Tensor
        ``[n, 1 + k]`` and ``[m, k + 1]``.

    Raises
    ------
    ValueError
        If states are not of the graph's nodes, values are not one for each node or edge, or they are to be divided by a
        number that is not positive.
    """
    of_shape("positions", x0, (graph.nodes, 3))
    of_shape("velocities", v0, (graph.nodes, 3))
    row, col = graph.edges
    features = [v0.norm(dim=-1, keepdim=True)]
    edge_features = [(x0[row] - x0[col]).square().sum(-1, keepdim=True)]
    if node_values is not None:
        if len(node_values) != graph.nodes:
            raise ValueError(
                f"node values must be one for each of {graph.nodes} nodes, got {len(node_values)}"
            )
        largest = torch.as_tensor(largest, dtype=v0.dtype, device=v0.device)
        if not (largest > 0).all():
            raise ValueError(
                f"largest must be positive, the largest value of the whole data set, got {largest.tolist()}"
            )
        features.append(node_values.reshape(graph.nodes, -1).to(v0.dtype) / largest)
    if edge_values is not None:
        if len(edge_values) != len(row):
            raise ValueError(f"edge values must be one for each of {len(row)} edges, got {len(edge_values)}")
        edge_features.insert(0, edge_values.reshape(len(row), -1).to(x0.dtype))
    return torch.cat(features, dim=1), torch.cat(edge_features, dim=1)


def window_times(slices=None, times=None):
    """Times of slices as fractions of the window, float64 ``(P,)`` on the CPU.

    Parameters
    ----------
    slices : int, optional
        For ``p / P``, p = 1 to P.
    times : sequence of float, optional
        Fractions in (0, 1], rising. They go before ``slices``.

    Raises
    ------
    ValueError
        For no slices, or times that do not rise or leave the window.
    """
    if times is None:
        (slices,) = check_sizes(slices=slices)
        return torch.arange(1, slices + 1, dtype=torch.float64) / slices
    times = torch.as_tensor(times, dtype=torch.float64).cpu()
    if times.dim() != 1 or not len(times):
        raise ValueError(
            f"times must be a list of at least one fraction of the window, got shape {tuple(times.shape)}"
        )
    if slices not in (None, len(times)):
        raise ValueError(f"slices={slices} and {len(times)} times do not suit each other: give one of them")
    for earlier, later in zip([0.0, *times.tolist()], times.tolist(), strict=False):
        if not earlier < later <= 1:
            raise ValueError(
                f"times must rise within (0, 1], got {later:g} after {earlier:g}: sort them and divide by the window"
            )
    return times


def check_states(x0, v0, graph):
    """ValueError unless positions and velocities are ``[n, 3]`` and finite; what lies off the CPU is not read."""
    for name, value in (("positions", x0), ("velocities", v0)):
        if value.shape != (graph.nodes, 3):
            raise ValueError(
                f"{name} must be of shape {(graph.nodes, 3)} for this graph, got {tuple(value.shape)}"
            )
        readable = value.device.type == "cpu" and not torch.compiler.is_compiling()
        if readable and not value.isfinite().all():
            node = int(value.isfinite().all(1).logical_not().nonzero()[0])
            system = int(graph.batch[node])
            raise ValueError(f"{name} of system {system} are not finite, first at node {node}: leave it out")


def check_features(features, graph, wanted):
    """ValueError unless there are as many features of each node as are wanted."""
    if features is None or features.shape != (graph.nodes, wanted):
        found = "none" if features is None else tuple(features.shape)
        raise ValueError(
            f"node features must be of shape {(graph.nodes, wanted)}, one row a node, got {found}"
        )


@contextmanager
def seeded(seed):
    """Random numbers of that seed; the global state is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


# ---- networks


class Dynamics(nn.Module):
    """A network of which :meth:`states` are asked, and by a plain call the positions only."""

    def forward(self, x0, v0, features=None, graph=None, edge_features=None, **options):
        """Positions ``[P, n, 3]``: see :meth:`states`."""
        return self.states(x0, v0, features, graph, edge_features, **options).positions


class EGNO(Dynamics):
    """Equivariant graph neural operator: the state now in, states at all times of a window out, in one pass.

    The state is repeated for each time, features are told which time it is, and blocks follow: convolutions along time,
    of features and of positions and velocities together, then a layer of the graph network in each time slice, with the
    same weights in all. Sections 3 and 4 of the paper.

    Parameters
    ----------
    node_features, edge_features : int
        Coordinates of what is known of nodes and of edges.
    width : int
        Coordinates of features, H.
    layers : int
        Blocks, L; each has weights of its own.
    modes : int
        Frequencies of the convolutions, I, at most P // 2 + 1.
    slices : int
        Times P of a window in training; others may be asked for.
    embedding : int
        Coordinates of the time embedding; 0 for a network that is not told the time.
    time_coord : {"index", "physical"}
        What it is told: the number of the slice, from 0, or the time ``P t - 1``, t in (0, 1], which is the same for
        training times p / P and goes between them for others.
    convolve : collection of {"invariants", "vectors"}
        What is convolved along time. With neither, each slice is an EGNN told the time.
    seed : int
        Of the initial weights.

    Raises
    ------
    ValueError
        For sizes that are not positive, too many modes, or unknown names.

    Examples
    --------
    >>> sum(p.numel() for p in EGNO(1, 2).parameters())
    201672
    """

    def __init__(
        self,
        node_features,
        edge_features,
        *,
        width=64,
        layers=4,
        modes=2,
        slices=5,
        embedding=32,
        time_coord="index",
        convolve=CONVOLVED,
        seed=0,
    ):
        super().__init__()
        node_features, width, layers, modes, slices = check_sizes(
            node_features=node_features, width=width, layers=layers, modes=modes, slices=slices
        )
        if time_coord not in TIME_COORDS:
            raise ValueError(
                f"time_coord must be one of {', '.join(map(repr, TIME_COORDS))}, got {time_coord!r}"
            )
        if isinstance(convolve, str) or not set(convolve) <= set(CONVOLVED):
            raise ValueError(f"convolve must list none, one or both of {CONVOLVED}, got {convolve!r}")
        embedding = whole("embedding", embedding, 0)
        if embedding == 1:
            raise ValueError(f"embedding must be 0 for none or at least 2, got {embedding!r}")
        if convolve:
            check_modes(modes, slices)
        self.node_features, self.edge_features = node_features, edge_features
        self.slices, self.embedding, self.time_coord = slices, embedding, time_coord
        with seeded(seed):
            self.embed = nn.Linear(node_features + embedding, width)
            self.layers = nn.ModuleList(EGNNLayer(width, edge_features) for _ in range(layers))
            count = layers if "invariants" in convolve else 0
            self.on_invariants = nn.ModuleList(TemporalConvolution(width, modes) for _ in range(count))
            count = layers if "vectors" in convolve else 0
            self.on_vectors = nn.ModuleList(TemporalConvolution(2, modes, vectors=True) for _ in range(count))

    def states(self, x0, v0, features, graph, edge_features=None, *, slices=None, times=None):
        """Positions, velocities and features at all times, :class:`States`.

        Parameters
        ----------
        x0, v0 : torch.Tensor
            Positions and velocities ``[n, 3]``.
        features : torch.Tensor
            Invariant features of nodes ``[n, F]``.
        graph : loupe.networks.egnn.Graph
            Of n nodes.
        edge_features : torch.Tensor, optional
            Invariant features of edges ``[m, E]``.
        slices : int, optional
            Times wanted, p / P; as in training by default.
        times : sequence of float, optional
            Times wanted, as fractions of the window, rising in (0, 1]. Convolutions take them for even steps.

        Raises
        ------
        ValueError
            For shapes that do not suit, states that are not finite, times outside the window or out of order, or too few
            of them for the modes.
        """
        check_states(x0, v0, graph)
        check_features(features, graph, self.node_features)
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x0)
        if slices is None and times is None:
            slices = self.slices
        times = window_times(slices, times)
        P = len(times)
        x, v = graph.fold(x0), graph.fold(v0)
        centre = graph.centroids(x)
        h = self._lifted(graph.fold(features), times)
        x, v = x.expand(P, -1, -1, -1), v.expand(P, -1, -1, -1)
        for k, layer in enumerate(self.layers):
            if self.on_invariants:
                h = self.on_invariants[k](h)
            if self.on_vectors:
                x, v = self.on_vectors[k](torch.stack([x - centre, v], dim=-1)).unbind(-1)
                x = x + centre
            x, h = layer.folded(x, v, h, graph, edge_features)
        return States(*(graph.unfold(value, (P,)) for value in (x, v, h)))

    def _lifted(self, features, times):
        """Features at each time ``[P, N, B, H]``, the share of the nodes computed once."""
        known, told = self.embed.weight.split([self.node_features, self.embedding], dim=1)
        h = linear(features, known, self.embed.bias)
        if not self.embedding:
            return h.expand(len(times), -1, -1, -1)
        tau = torch.arange(len(times)) if self.time_coord == "index" else self.slices * times - 1
        time = time_embedding(tau, self.embedding).to(h.device, h.dtype)
        return h + linear(time, told)[:, None, None]


class EGNN(EGNO):
    """The end of the window only, P = 1: the graph network of :class:`EGNO` without time.

    Parameters as for :class:`EGNO`.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, seed=0):
        super().__init__(
            node_features,
            edge_features,
            width=width,
            layers=layers,
            modes=1,
            slices=1,
            embedding=0,
            convolve=(),
            seed=seed,
        )


class SequentialEGNN(EGNN):
    """EGNN-S: an EGNN whose layers pass through the window, slice p being what stands after the layer nearest to p L / P.

    Halves go to the later layer, and there is no slice before the first. Where there are fewer layers than slices some
    slices are equal.

    Parameters as for :class:`EGNO`; ``slices`` is fixed.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, slices=5, seed=0):
        super().__init__(node_features, edge_features, width=width, layers=layers, seed=seed)
        (slices,) = check_sizes(slices=slices)
        self.slices = slices
        self.reads = tuple(max(1, (2 * p * layers + slices) // (2 * slices)) for p in range(1, slices + 1))

    def states(self, x0, v0, features, graph, edge_features=None):
        """Positions, velocities and features at all times, as :meth:`EGNO.states`."""
        check_states(x0, v0, graph)
        check_features(features, graph, self.node_features)
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x0)
        x, v = graph.fold(x0), graph.fold(v0)
        h = linear(graph.fold(features), self.embed.weight, self.embed.bias)
        after = {}
        for k, layer in enumerate(self.layers, start=1):
            x, h = layer.folded(x, v, h, graph, edge_features)
            after[k] = x, h
        x, h = (torch.cat([after[k][part] for k in self.reads]) for part in (0, 1))
        v = v.expand(self.slices, -1, -1, -1)
        return States(*(graph.unfold(value, (self.slices,)) for value in (x, v, h)))


class Linear(Dynamics):
    """Straight on: ``x0 + a t v0``, one learnt number a, at times t of the window in (0, 1].

    Parameters
    ----------
    slices : int
        Times p / P; 1 for the end only.
    """

    def __init__(self, slices=1):
        super().__init__()
        (slices,) = check_sizes(slices=slices)
        self.slices = slices
        self.scale = nn.Parameter(torch.ones(()))

    def states(self, x0, v0, features=None, graph=None, edge_features=None, *, slices=None, times=None):
        """As :meth:`EGNO.states`; features and graph are not looked at."""
        if slices is None and times is None:
            slices = self.slices
        times = window_times(slices, times).to(x0.device, x0.dtype).view(-1, 1, 1)
        positions = x0 + self.scale * times * v0
        return States(positions, v0.expand_as(positions), None)


class RadialField(Dynamics):
    """RF: the end of the window, from forces along the lines between points, without hidden features.

    Each layer moves ``x_i`` by ``phi_v(|v_i|) v_i`` and by the mean over neighbours of ``(x_i - x_j) tanh phi(|x_i - x_j|,
    e_ij)``. After Köhler, Klein and Noé, Equivariant Flows, 2019, with a share of the velocity; the tanh keeps points that
    are far apart from being thrown out.

    Parameters
    ----------
    edge_features, width, layers, seed : int
        As for :class:`EGNO`.
    """

    def __init__(self, edge_features, *, width=64, layers=4, seed=0):
        super().__init__()
        width, layers = check_sizes(width=width, layers=layers)
        self.edge_features = edge_features
        with seeded(seed):
            self.radial = nn.ModuleList(perceptron(1 + edge_features, width, 1) for _ in range(layers))
            self.speed = nn.ModuleList(perceptron(1, width, 1) for _ in range(layers))

    def states(self, x0, v0, features, graph, edge_features=None):
        """As :meth:`EGNO.states`, P = 1; features of nodes are not looked at."""
        check_states(x0, v0, graph)
        known = fold_edge_features(graph, edge_features, self.edge_features, x0).unsqueeze(0)
        x, v = graph.fold(x0), graph.fold(v0)
        fast = v.norm(dim=-1, keepdim=True)
        for radial, speed in zip(self.radial, self.speed, strict=True):
            apart = graph.joined(x, x, sign=-1)
            weight = radial(torch.cat([apart.norm(dim=-1, keepdim=True), known], dim=-1)).tanh()
            shift = graph.averaged(apart * weight).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
            x = x + speed(fast) * v + shift
        return States(graph.unfold(x, (1,)), graph.unfold(v, (1,)), None)


class MessagePassing(Dynamics):
    """MPNN: the end of the window by a network of the same width that reads coordinates as numbers like any others.

    Messages ``phi_m([h_i, h_j, e_ij])`` are summed and ``h_i`` becomes ``h_i + phi_h([h_i, sum])``; what is read off in
    the end is added to the positions. It is not equivariant.

    Parameters
    ----------
    node_features, edge_features, width, layers, seed : int
        As for :class:`EGNO`.
    """

    def __init__(self, node_features, edge_features, *, width=64, layers=4, seed=0):
        super().__init__()
        node_features, width, layers = check_sizes(node_features=node_features, width=width, layers=layers)
        self.node_features, self.edge_features, self.width = node_features, edge_features, width
        with seeded(seed):
            self.embed = nn.Linear(6 + node_features, width)
            self.message = nn.ModuleList(
                nn.Sequential(perceptron(2 * width + edge_features, width, width), nn.SiLU())
                for _ in range(layers)
            )
            self.feature = nn.ModuleList(perceptron(2 * width, width, width) for _ in range(layers))
            self.head = perceptron(width, width, 3)

    def states(self, x0, v0, features, graph, edge_features=None):
        """As :meth:`EGNO.states`, P = 1."""
        check_states(x0, v0, graph)
        check_features(features, graph, self.node_features)
        known = fold_edge_features(graph, edge_features, self.edge_features, x0).unsqueeze(0)
        h = graph.fold(self.embed(torch.cat([x0, v0, features], dim=-1)))
        for message, feature in zip(self.message, self.feature, strict=True):
            first, rest = message[0][0], nn.Sequential(message[0][1:], message[1])
            of_ends, of_starts, of_edges = first.weight.split(
                [self.width, self.width, self.edge_features], dim=1
            )
            pairs = graph.joined(linear(h, of_ends, first.bias), linear(h, of_starts))
            heard = graph.summed(rest(pairs + linear(known, of_edges)))
            h = h + feature(torch.cat([h, heard], dim=-1))
        features = graph.unfold(h, (1,))
        return States(x0 + self.head(features), v0.unsqueeze(0), features)


def rollout(model, x0, v0, steps, features, graph, edge_features=None, *, duration=1.0, reach=None):
    """EGNN-R: a network of one step, applied again and again to what it said.

    Parameters
    ----------
    model : Dynamics
        Of P = 1, trained to predict one step.
    x0, v0 : torch.Tensor
        Positions and velocities ``[n, 3]``.
    steps : int
        Number of steps, P.
    features, edge_features : torch.Tensor or callable
        Features of nodes and of edges. What depends on the state, as the speed does, must be computed anew at each step:
        then a function of positions and velocities. With one function for both, which returns the two as
        :func:`input_features` does, leave ``edge_features`` out.
    graph : loupe.networks.egnn.Graph
    duration : float
        Of a step, in the time of velocities: after a step they are the way made, over this.
    reach : float, optional
        Farthest that a point may come from where it started; it is held there, or where it was if it leaves all numbers.
        A path that goes astray otherwise grows with a power of itself at each step.

    Returns
    -------
    torch.Tensor
        Positions ``[P, n, 3]``.

    Raises
    ------
    ValueError
        For no steps, a duration or a reach that is not positive, or a network that predicts several slices.
    """
    (steps,) = check_sizes(steps=steps)
    if not duration > 0:
        raise ValueError(
            f"duration must be positive, the time of a step in the unit of velocities, got {duration!r}"
        )
    if reach is not None and not reach > 0:
        raise ValueError(f"reach must be positive, or None for no bound, got {reach!r}")
    x, v, path = x0, v0, []
    for _ in range(steps):
        of_nodes = features(x, v) if callable(features) else features
        of_edges = edge_features(x, v) if callable(edge_features) else edge_features
        if isinstance(of_nodes, tuple):
            of_nodes, of_edges = of_nodes
        new = model(x, v, of_nodes, graph, of_edges)
        if len(new) != 1:
            raise ValueError(
                f"a rollout needs a network of one step, got one of {len(new)} slices: train it with P = 1"
            )
        new = of_shape("the prediction", new[0], x0.shape)
        if reach is not None:
            way = new - x0
            length = way.norm(dim=-1, keepdim=True)
            new = torch.where(length.isfinite(), x0 + way * (reach / length).clamp(max=1), x)
        x, v = new, (new - x) / duration
        path.append(x)
    return torch.stack(path)
