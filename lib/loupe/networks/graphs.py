"""Graphs of points, in a memory layout that is fast for networks."""

import copy
import warnings

import torch

from loupe.checks import edge_list, unmasked, whole

LARGEST_DENSE = 16


class Graph:
    """Edges between the nodes of one or more graphs, in a memory layout that is fast for networks.

    Graphs of equal size with the same edges are interleaved: node values become ``[P, N, B, C]``, with node ``i`` of
    all ``B`` copies adjacent, so each edge of a copy moves one long row of memory. In a small complete graph, the edges
    into a node are ``N - 1`` adjacent rows, so no index lookup is needed. Other graphs are one copy with ``N = n``.

    Parameters
    ----------
    edges : torch.Tensor
        Shape (2, m), int64: ends and starts, (row, col); messages go from ``col`` to ``row``. PyTorch Geometric's
        ``edge_index`` runs the other way: pass ``edge_index.flip(0)``.
    nodes : int
        Nodes of all graphs together, n.
    graphs : int, optional
        Number of graphs of ``nodes / graphs`` nodes each, one after the other; 1 by default.
    batch : torch.Tensor, optional
        Shape (n,), int64: the graph of each node, from 0, if sizes differ.

    Attributes
    ----------
    edges, nodes, graphs, batch
        As given.
    copies : int
        Number of interleaved graphs, B.
    dense : bool
        Whether a copy is a complete graph with at most 16 nodes.

    Raises
    ------
    ValueError
        For edges of the wrong shape or out of range, or graphs of different sizes without a batch vector.

    Warns
    -----
    RuntimeWarning
        If there are no edges, so nodes exchange no messages.

    Examples
    --------
    >>> Graph(torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), 4, graphs=2).copies
    2
    """

    def __init__(self, edges, nodes, *, graphs=None, batch=None):
        nodes = whole("nodes", nodes)
        edges = edge_list(torch.as_tensor(unmasked("edges", edges)), nodes, axis=0)
        self.edges, self.nodes = edges, nodes
        self._name_graphs(graphs, batch)
        if not edges.numel():
            warnings.warn(
                "the graph has no edges: no node will hear of another", RuntimeWarning, stacklevel=2
            )
        self._lay_out()

    @classmethod
    def complete(cls, graphs, nodes):
        """``graphs`` complete graphs of ``nodes`` nodes each."""
        pairs = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]].T
        return cls.repeated(pairs, nodes, graphs)

    @classmethod
    def repeated(cls, edges, nodes, graphs):
        """Copies of one graph with edges (2, M); edges of a copy stay together."""
        edges = torch.as_tensor(edges)
        first = nodes * torch.arange(graphs, device=edges.device)
        edges = (edges.unsqueeze(1) + first.unsqueeze(1)).reshape(2, -1)
        return cls(edges, nodes * graphs, graphs=graphs)

    def to(self, device):
        """The same graph on another device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def listed(self):
        """The same graph as one plain list of edges: slower, and a check of the other layout."""
        plain = copy.copy(self)
        plain._lay_out(shaped=False)
        return plain

    # ---- layouts of nodes and edges

    def fold(self, values):
        """Node values ``[..., n, C]`` as ``[P, N, B, C]``, leading axes flattened."""
        sides = values.reshape(-1, self.copies, self.nodes // self.copies, values.shape[-1])
        return sides.transpose(1, 2).contiguous()

    def unfold(self, values, leading):
        """Values ``[P, N, B, C]`` as ``[*leading, n, C]``."""
        return values.transpose(1, 2).reshape(*leading, self.nodes, values.shape[-1])

    def fold_edges(self, values):
        """Values of edges ``[m, E]`` as ``[M, B, E]``."""
        sides = values.index_select(0, self._order).view(self.copies, len(self._row), values.shape[-1])
        return sides.transpose(0, 1).contiguous()

    def joined(self, ends, starts, sign=1):
        """``ends + sign * starts`` of folded values at the two ends of each edge, ``[P, N, B, C]`` to ``[P, M, B, C]``."""
        starts = starts.index_select(1, self._col)
        if self.dense:
            N = ends.shape[1]
            return ends.unsqueeze(2).add(starts.unflatten(1, (N, N - 1)), alpha=sign).flatten(1, 2)
        return ends.index_select(1, self._row).add(starts, alpha=sign)

    def summed(self, values):
        """Values of edges ``[P, M, B, C]`` summed at their ends, ``[P, N, B, C]``."""
        P, _, B, C = values.shape
        N = self.nodes // self.copies
        if self.dense:
            return values.view(P, N, N - 1, B, C).sum(2)
        return values.new_zeros(P, N, B, C).index_add(1, self._row, values)

    def averaged(self, values):
        """Like :meth:`summed`, divided by the number of edges into the node, or by 1 if there are none."""
        return self.summed(values) / self._degree.to(values.dtype)

    def centroids(self, values):
        """The mean over each node's graph, for folded values ``[P, N, B, C]``: broadcastable to them."""
        if self.copies == self.graphs:
            return values.mean(1, keepdim=True)
        sums = values.new_zeros(len(values), self.graphs, *values.shape[2:]).index_add(1, self.batch, values)
        sizes = self.batch.bincount(minlength=self.graphs).clamp(min=1).view(-1, 1, 1).to(values.dtype)
        return (sums / sizes).index_select(1, self.batch)

    # ---- the same for one slice, in place: rows of N nodes and of M edges

    def join_slice(self, ends, starts, out, spare):
        """``out [M, C]`` becomes the sums of the rows at the two ends of each edge."""
        torch.index_select(starts, 0, self._col, out=out)
        if self.dense:
            out.view(len(ends), -1, out.shape[1]).add_(ends.unsqueeze(1))
        else:
            out.add_(torch.index_select(ends, 0, self._row, out=spare.view_as(out)))

    def sum_slice(self, values, out):
        """``out [N, C]`` becomes the sums of rows ``[M, C]`` at their ends."""
        if self.dense:
            torch.sum(values.view(len(out), -1, out.shape[1]), 1, out=out)
        else:
            out.zero_().index_add_(0, self._row, values)

    def spread_slice(self, values, out):
        """``out [M, C]`` becomes the row, of ``[N, C]``, at the end of each edge."""
        if self.dense:
            out.view(len(values), -1, out.shape[1]).copy_(values.unsqueeze(1))
        else:
            torch.index_select(values, 0, self._row, out=out)

    # ---- construction

    def _name_graphs(self, graphs, batch):
        if batch is not None:
            batch = torch.as_tensor(batch, device=self.edges.device)
            if batch.shape != (self.nodes,) or batch.dtype != torch.int64:
                raise ValueError(
                    f"batch must be int64 of shape ({self.nodes},), a graph for each node, "
                    f"got {batch.dtype} of shape {tuple(batch.shape)}"
                )
            least, most = batch.aminmax()
            if least < 0 or most >= (graphs or most + 1):
                count = f"0 to {graphs - 1}" if graphs else "0"
                raise ValueError(f"batch must count graphs from {count}, got {least} to {most}")
            graphs = graphs or int(most) + 1
            self.graphs, self.batch = graphs, batch
        else:
            graphs = 1 if graphs is None else whole("graphs", graphs)
            if self.nodes % graphs:
                raise ValueError(
                    f"{self.nodes} nodes do not make graphs={graphs} of one size: give a batch vector where sizes differ"
                )
            self.graphs = graphs
            every = torch.arange(self.nodes, device=self.edges.device)
            self.batch = every.div(self.nodes // graphs, rounding_mode="floor")
        row, col = self.batch[self.edges]
        if not torch.equal(row, col):
            first = self.edges[:, row != col][:, 0].tolist()
            raise ValueError(
                f"edges must stay within a graph, got one from node {first[1]} to node {first[0]}: mend batch"
            )

    def _lay_out(self, shaped=True):
        row, col = self.edges
        # With sorted ends, sums pass through memory once; equal copies then have equal pieces of the list.
        self._order = (row * self.nodes + col).argsort(stable=True)
        row, col = self.edges[:, self._order]
        self.copies, self.dense = 1, False
        N, M = self.nodes // self.graphs, len(row) // self.graphs
        if shaped and self.nodes == self.graphs * N and len(row) == self.graphs * M:
            first = N * torch.arange(self.graphs, device=row.device).unsqueeze(1)
            blocks = self.batch.view(self.graphs, N) == first // N
            rows, cols = (end.view(self.graphs, M) - first for end in (row, col))
            if blocks.all() and (rows == rows[0]).all() and (cols == cols[0]).all():
                self.copies, row, col = self.graphs, rows[0].contiguous(), cols[0].contiguous()
                distinct = bool((row != col).all()) and len(torch.unique(row * N + col)) == M
                self.dense = 1 < N <= LARGEST_DENSE and M == N * (N - 1) and distinct
        self._row, self._col = row, col
        degree = torch.bincount(row, minlength=self.nodes // self.copies)
        self._degree = degree.clamp(min=1).view(-1, 1, 1)


def as_graph(graph, nodes):
    """A graph unchanged, or edges (2, E) as one :class:`Graph` of that many nodes."""
    return graph if isinstance(graph, Graph) else Graph(graph, nodes)
