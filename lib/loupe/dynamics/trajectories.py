"""Windows of trajectories: a current state, and positions at some later times."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from loupe.checks import edge_list, of_shape, unmasked, whole
from loupe.dynamics.states import input_features
from loupe.dynamics.temporal import rising
from loupe.networks.graphs import Graph


@dataclass(frozen=True, eq=False)
class Windows:
    """S windows of systems of N points in D dimensions that share their edges.

    Attributes
    ----------
    positions, velocities : torch.Tensor
        The current states, ``(S, N, D)``; float32 in the papers.
    targets : torch.Tensor
        Positions at P times, ``(S, P, N, D)``.
    times : torch.Tensor
        These times as increasing fractions of the window, float64 ``(P,)``; the last is 1.
    duration : float
        Duration of the window, in the time unit of velocities.
    edges : torch.Tensor
        int64 ``(2, M)``, first row ends, second row starts.
    node_values : torch.Tensor or None
        Node values besides the speed, ``(S, N, k)``, divided by the largest one.
    edge_values : torch.Tensor
        Edge values besides the distance, ``(S, M, k)``; k may be 0.
    height : float or None
        If height is an input, its divisor; the second coordinate points up.

    Raises
    ------
    ValueError
        If shapes do not agree, times do not increase to 1, edges name missing nodes, or the duration is not positive.
    """

    positions: torch.Tensor
    velocities: torch.Tensor
    targets: torch.Tensor
    times: torch.Tensor
    duration: float
    edges: torch.Tensor
    edge_values: torch.Tensor
    node_values: torch.Tensor | None = None
    height: float | None = None

    def __post_init__(self):
        if self.positions.ndim != 3:
            raise ValueError(f"positions must be of shape (S, N, D), got {tuple(self.positions.shape)}")
        S, N, D = self.positions.shape
        edge_list(self.edges, N, axis=0)
        of_shape("velocities", self.velocities, (S, N, D))
        of_shape("targets", self.targets, (S, len(self.times), N, D))
        for name, count in (("edge_values", self.edges.shape[1]), ("node_values", N)):
            value = getattr(self, name)
            if value is not None and (value.ndim != 3 or value.shape[:2] != (S, count)):
                raise ValueError(f"{name} must be of shape ({S}, {count}, k), got {tuple(value.shape)}")
        if rising(self.times)[-1] < 1:
            raise ValueError(f"times must end with the window, at 1, got {self.times[-1]:g}: divide by it")
        if not self.duration > 0:
            raise ValueError(f"duration must be positive, in the time of velocities, got {self.duration}")

    def __len__(self):
        """S."""
        return len(self.positions)

    @property
    def node_features(self):
        """Number of input features of a node: the speed, height, and node values."""
        known = 0 if self.node_values is None else self.node_values.shape[-1]
        return 1 + (self.height is not None) + known

    @property
    def edge_features(self):
        """Number of input features of an edge: edge values, and the squared distance."""
        return self.edge_values.shape[-1] + 1

    def chosen(self, index):
        """The windows at an index: a slice, or int64 numbers."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        per_window = ("positions", "velocities", "targets", "edge_values", "node_values")
        return replace(self, **{name: parts[name][index] for name in per_window if parts[name] is not None})

    def thinned(self, slices):
        """The same windows with fewer times: every (P / slices)-th.

        Raises
        ------
        ValueError
            If P is not a multiple of ``slices``.
        """
        P = len(self.times)
        if not 1 <= slices <= P or P % slices:
            raise ValueError(f"{P} times cannot be thinned to slices={slices}: give a divisor of {P}")
        kept = slice(P // slices - 1, None, P // slices)
        return replace(self, targets=self.targets[:, kept], times=self.times[kept])

    def steps(self):
        """Each step of each window as a separate window, S P of them, to train a network for rollouts.

        After the first step, the velocity is that of :func:`~loupe.dynamics.rollout`: the previous displacement over
        the step's duration.

        Raises
        ------
        ValueError
            If times are not evenly spaced.
        """
        P = len(self.times)
        if not torch.allclose(self.times, torch.arange(1, P + 1, dtype=torch.float64) / P):
            raise ValueError(
                f"times must be spread evenly to be steps, got {self.times.tolist()}: cut windows with spread='uniform'"
            )
        path = torch.cat([self.positions.unsqueeze(1), self.targets], dim=1)
        ways = path.diff(dim=1) * (P / self.duration)
        velocities = torch.cat([self.velocities.unsqueeze(1), ways[:, :-1]], dim=1)
        known = {"edge_values": self.edge_values, "node_values": self.node_values}
        return replace(
            self,
            positions=path[:, :-1].flatten(0, 1),
            velocities=velocities.flatten(0, 1),
            targets=self.targets.reshape(-1, 1, *self.targets.shape[2:]),
            times=self.times[-1:],
            duration=self.duration / P,
            **{k: value.repeat_interleave(P, 0) for k, value in known.items() if value is not None},
        )

    def tensors(self):
        """The tensors of a batch: positions, velocities, targets, edge and node values, all ``(S, ...)``.

        Pass them to :class:`~loupe.training.Batches`, and its batches to :meth:`predict`.
        """
        nodes = self.positions.new_empty(*self.positions.shape[:2], 0)
        known = nodes if self.node_values is None else self.node_values
        return self.positions, self.velocities, self.targets, self.edge_values, known

    def graph(self, copies):
        """The graph of ``count`` systems."""
        return Graph.repeated(self.edges, self.positions.shape[1], copies)

    def features(self, x, v, graph, edge_values, node_values):
        """Input features for a batch's state ``(n, 3)``: of nodes ``(n, F)`` and of edges ``(m, E)``."""
        known = [node_values.flatten(0, 1)]
        if self.height is not None:
            known.insert(0, x[:, 1:2] / self.height)
        return input_features(x, v, graph, torch.cat(known, dim=1), edge_values.flatten(0, 1))

    def predict(self, network, batch=None, **options):
        """A network's predicted positions ``(B, P, N, D)``, with gradients.

        Parameters
        ----------
        network : callable
            Such as :class:`EGNO`.
        batch : sequence of torch.Tensor, optional
            B windows, in the order of :meth:`tensors`; all windows by default.
        **options
            Options of the network, such as ``slices`` or ``times``.
        """
        x, v, _, *known = self.tensors() if batch is None else batch
        graph = self.graph(len(x)).to(x.device)
        states = x.flatten(0, 1), v.flatten(0, 1)
        features, edge_features = self.features(*states, graph, *known)
        path = network(*states, features, graph, edge_features, **options)
        return path.unflatten(1, x.shape[:2]).transpose(0, 1)


def path_windows(
    paths, edges=None, *, distance, slices, step=1.0, velocities=None, node_values=None, edge_values=None
):
    """Windows of your own trajectories, at evenly spaced times.

    Parameters
    ----------
    paths : array or torch.Tensor
        Positions ``(T, N, D)`` of N points in T frames, or ``(R, T, N, D)`` of R runs; float64 stays float64.
    edges : array or torch.Tensor of int, optional
        ``(2, M)``, messages go from the second row to the first; all pairs by default.
    distance, slices : int
        Frames from the current state to the last target, and number of targets, a divisor of it. A window starts at
        each frame that has enough frames after it, so windows overlap: take training and test sets from separate runs
        or pieces of a run.
    step : float
        Time between frames.
    velocities : array or torch.Tensor, optional
        Shape of ``paths``, in its unit over that of ``step``. By default the displacement from the previous frame over
        the time of a step: windows then start at the second frame.
    node_values, edge_values : array or torch.Tensor, optional
        ``(N, k)`` and ``(M, k)``: constant values of points and edges, of order 1.

    Returns
    -------
    Windows
        In order of runs, then of time.

    Raises
    ------
    ValueError
        For shapes that do not agree, positions or velocities that are not finite, or runs too short for a window.

    Examples
    --------
    From positions to predictions and saved weights:

    >>> from loupe.dynamics import EGNO, save_network
    >>> from loupe.training import Batches, fit
    >>> angle = np.linspace(0, 30, 300)[:, None] + np.array([0.0, 2.1, 4.2])
    >>> positions = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # yours: 300 frames, 3 points, 2 dimensions
    >>> train, test = (path_windows(part, distance=20, slices=5) for part in (positions[:200], positions[200:]))
    >>> model = EGNO(train.node_features, train.edge_features, width=16, layers=2).double()
    >>> def loss(model, batch, generator):
    ...     return (train.predict(model, batch) - batch[2]).square().mean()
    >>> optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    >>> run = fit(model, loss, Batches(*train.tensors(), size=32), optimiser, steps=20)
    >>> test.predict(model).shape  # of each window, at its five times
    torch.Size([79, 5, 3, 2])
    >>> test.predict(model, times=[0.5, 0.77]).shape  # at times of your own
    torch.Size([79, 2, 3, 2])
    >>> save_network(model, "model.pt")  # doctest: +SKIP
    """
    paths = real("paths", paths)
    paths = paths[None] if paths.ndim == 3 else paths
    if paths.ndim != 4:
        raise ValueError(f"paths must be of shape (T, N, D) or (R, T, N, D), got {tuple(paths.shape)}")
    T, N = paths.shape[1:3]
    distance, first = whole("distance", distance), int(velocities is None)
    if distance % whole("slices", slices):
        raise ValueError(f"distance={distance} frames have no slices={slices} equal parts: give a divisor")
    if first + distance >= T:
        raise ValueError(f"runs of {T} frames hold no window of distance={distance}: shorten distance")
    if velocities is None:
        velocities = paths.diff(dim=1, prepend=paths[:, :1]) / step
    velocities = real("velocities", velocities).to(paths.dtype)
    velocities = of_shape("velocities", velocities[None] if velocities.ndim == 3 else velocities, paths.shape)
    edges = Graph.complete(1, N).edges if edges is None else edge_list(torch.as_tensor(edges), N, axis=0)
    edge_values = paths.new_empty(edges.shape[1], 0) if edge_values is None else edge_values
    starts = torch.arange(first, T - distance)

    def everywhere(name, values):
        return real(name, values).to(paths.dtype).expand(len(paths) * len(starts), -1, -1)

    return Windows(
        paths[:, starts].flatten(0, 1),
        velocities[:, starts].flatten(0, 1),
        paths[:, uniform_frames(starts, distance, slices)].flatten(0, 1),
        torch.arange(1, slices + 1, dtype=torch.float64) / slices,
        distance * float(step),
        edges,
        everywhere("edge_values", edge_values),
        None if node_values is None else everywhere("node_values", node_values),
    )


def real(name, values):
    """Finite real numbers as a tensor, integers in torch's default dtype; otherwise ValueError."""
    values = torch.as_tensor(unmasked(name, values))
    values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite: leave runs with NaN or infinity out, or cut them there")
    return values


def uniform_frames(start, distance, slices):
    r"""Frames spread evenly over a window: :math:`f_0+\lfloor\Delta F\,p/P\rfloor` for p = 1, ..., P.

    Parameters
    ----------
    start : int, or tensor or array of ints, shape (...)
        Input frame :math:`f_0`, or several of them.
    distance : int
        Frames :math:`\Delta F` from the input to the last target.
    slices : int
        Number P of targets, from 1 to ``distance``.

    Returns
    -------
    torch.Tensor, shape (..., P), int64
        Increasing; the last is start + distance.

    Raises
    ------
    ValueError
        If slices is not from 1 to ``distance``: two targets would be the same frame, or one the input itself.

    Examples
    --------
    >>> uniform_frames(30, 10, 5).tolist()
    [32, 34, 36, 38, 40]
    """
    distance, slices = whole("distance", distance), whole("slices", slices)
    return _frames(start, distance, slices, [distance * p // slices for p in range(1, slices + 1)])


def last_frames(start, distance, slices):
    r"""The last consecutive frames of a window: :math:`f_0+\Delta F+p-P` for p = 1, ..., P.

    Parameters, errors and result are as in :func:`uniform_frames`.

    Examples
    --------
    >>> last_frames(30, 10, 5).tolist()
    [36, 37, 38, 39, 40]
    """
    distance, slices = whole("distance", distance), whole("slices", slices)
    return _frames(start, distance, slices, [distance + p - slices for p in range(1, slices + 1)])


def _frames(start, distance, slices, offsets):
    if not 1 <= slices <= distance:
        raise ValueError(
            f"slices must be from 1 to the distance of {distance} frames, got {slices}: targets must differ "
            "from each other and from the input"
        )
    return torch.from_numpy(np.asarray(start, dtype=np.int64)[..., None] + np.array(offsets))
