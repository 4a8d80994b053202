"""A layer of an equivariant graph network: points that turn, move and are renumbered as their input is.

After Satorras, Hoogeboom and Welling, E(n) Equivariant Graph Neural Networks, 2021, in the form that Xu et al.,
Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024, apply to every time slice of a trajectory.
"""

import copy
import warnings

import torch
from torch import nn
from torch.nn.functional import linear, silu

from loupe.checks import edge_list, unmasked, whole
from loupe.derivatives import transformed

LARGEST_DENSE = 16
LARGEST_SHIFT = 100.0


class Graph:
    """Edges between the nodes of one or more graphs, and the order in which a network best works on them.

    Graphs of equal size with the same edges are laid side by side: values of nodes become ``[P, N, B, C]``, node ``i``
    of all ``B`` copies next to each other, so that one of the few edges of a copy moves one long row of memory. Where
    every node is further joined to every other and there are few, the edges that meet a node are ``N - 1`` neighbouring
    rows and nothing has to be looked up at their end. Other graphs are one copy with ``N = n``.

    Parameters
    ----------
    edges : torch.Tensor
        Of shape (2, m), int64: ends and starts, (row, col); what ``col`` has to say goes to ``row``.
    nodes : int
        Nodes of all graphs together, n.
    graphs : int, optional
        Number of graphs, of ``nodes / graphs`` nodes each, one after the other. One by default.
    batch : torch.Tensor, optional
        Of shape (n,), int64: the graph of each node, counted from 0, where their sizes differ.

    Attributes
    ----------
    edges, nodes, graphs, batch
        As given.
    copies : int
        Graphs that lie side by side, B.
    dense : bool
        Whether a copy is a complete graph with at most 16 nodes.

    Raises
    ------
    ValueError
        For edges of another shape or out of range, or graphs that differ in size where no batch vector is given.

    Warns
    -----
    RuntimeWarning
        If there are no edges: nodes then do not hear of each other.

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
        """That many graphs of that many nodes each, every node joined to every other of its graph."""
        pairs = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]].T
        return cls.repeated(pairs, nodes, graphs)

    @classmethod
    def repeated(cls, edges, nodes, graphs):
        """That many copies of one graph with edges (2, M) between that many nodes; edges of a copy stay together."""
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
        """The same graph as one list of edges, whatever its shape: slower, and a check of the other order."""
        plain = copy.copy(self)
        plain._lay_out(shaped=False)
        return plain

    # ---- orders of nodes and edges

    def fold(self, values):
        """Values of nodes ``[..., n, C]`` as ``[P, N, B, C]``, all leading axes in one."""
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
        """As :meth:`summed`, over the number of edges that end at the node, or 1 where there is none."""
        return self.summed(values) / self._degree.to(values.dtype)

    def centroids(self, values):
        """Folded values ``[P, N, B, C]``, at each node the mean over its graph: of a shape that broadcasts."""
        if self.copies == self.graphs:
            return values.mean(1, keepdim=True)
        sums = values.new_zeros(len(values), self.graphs, *values.shape[2:]).index_add(1, self.batch, values)
        sizes = self.batch.bincount(minlength=self.graphs).clamp(min=1).view(-1, 1, 1).to(values.dtype)
        return (sums / sizes).index_select(1, self.batch)

    # ---- the same of one slice, in place: rows of N nodes and of M edges

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

    # ---- how they come about

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
        # Ends in rising order let sums run through memory once; equal copies then have equal pieces of the list.
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


def plain_messages(graph, ends, starts, known, of_known, w2, b2, w3, b3, w4, b4):
    """All that happens at edges: weights of differences ``[P, M B, 1]``, and summed messages ``[P, N, B, H]``."""
    P, _, B, H = ends.shape
    pairs = graph.joined(ends, starts)
    m = torch.addmm(pairs.reshape(-1, H), known.reshape(-1, known.shape[-1]), of_known.T)
    m = silu(linear(silu(m), w2, b2))
    weight = linear(silu(linear(m, w3, b3)), w4, b4)
    return weight.view(P, -1, 1), graph.summed(m.view(P, -1, B, H))


class Messages(torch.autograd.Function):
    """:func:`plain_messages` for a CPU, slice by slice, so that it stays near the processor; gradients by hand.

    Of each slice three arrays are kept for the way back, what enters the three SiLU, and sums of gradients are formed in
    place. Where autograd records the way back, it is that of the plain computation.
    """

    @staticmethod
    def forward(graph, keep, ends, starts, known, of_known, w2, b2, w3, b3, w4, b4):
        """Weights of differences ``[P, M B, 1]``, summed messages ``[P, N, B, H]`` and what is kept ``[3, P, M B, H]``."""
        P, N, B, H = ends.shape
        edges = known.shape[1]
        kept = ends.new_empty(3, P if keep else 1, edges, H)
        weight, heard, out = ends.new_empty(P, edges, 1), torch.empty_like(ends), ends.new_empty(edges, H)
        for p in range(P):
            z1, z2, z3 = kept[:, p if keep else 0]
            graph.join_slice(ends[p].view(N, B * H), starts[p].view(N, B * H), z1.view(-1, B * H), out)
            z1.addmm_(known[p], of_known.T)
            torch.addmm(b2, torch.ops.aten.silu.out(z1, out=out), w2.T, out=z2)
            torch.ops.aten.silu.out(z2, out=out)
            graph.sum_slice(out.view(-1, B * H), heard[p].view(N, B * H))
            torch.addmm(b3, out, w3.T, out=z3)
            torch.addmm(b4, torch.ops.aten.silu.out(z3, out=out), w4.T, out=weight[p])
        return weight, heard, kept

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what the way back needs."""
        ctx.graph, _, *inputs = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)  # zeros as large as all that is kept would be made
        ctx.save_for_backward(*inputs, output[2])

    @staticmethod
    def backward(ctx, weight_grad, heard_grad, _):
        """Gradients by what :meth:`forward` was given."""
        *inputs, kept = ctx.saved_tensors
        ends, starts, known, of_known, w2, b2, w3, b3, w4, b4 = inputs
        P, N, B, H = ends.shape
        graph, edges = ctx.graph, known.shape[1]
        if weight_grad is None:
            weight_grad = known.new_zeros(P, edges, 1)
        if torch.is_grad_enabled():
            heard_grad = torch.zeros_like(ends) if heard_grad is None else heard_grad
            _, vjp = torch.func.vjp(lambda *inputs: plain_messages(graph, *inputs), *inputs)
            return None, None, *vjp((weight_grad, heard_grad))
        ends, starts = torch.empty_like(ends), torch.empty_like(starts)
        # Two narrow products are several times faster the other way round, with few long rows.
        knowns, of_known_rows = known.new_empty(P, known.shape[2], edges), of_known.T.contiguous()
        sums = [torch.zeros_like(w) for w in (of_known_rows, w2, b2, w3, b3, w4, b4)]
        of_known_sum, w2_sum, b2_sum, w3_sum, b3_sum, w4_sum, b4_sum = sums
        out, g, other = known.new_empty(3, edges, H)
        silu_to, back_to = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input
        for p in range(P):
            z1, z2, z3 = kept[:, p]
            w4_sum.addmm_(weight_grad[p].T, silu_to(z3, out=out))
            b4_sum += weight_grad[p].sum(0)
            torch.mul(weight_grad[p], w4, out=g)
            back_to(g, z3, grad_input=g)
            w3_sum.addmm_(g.T, silu_to(z2, out=out))
            b3_sum += g.sum(0)
            torch.mm(g, w3, out=other)
            if heard_grad is not None:
                # What was heard of a message is added to what its weight asks for.
                graph.spread_slice(heard_grad[p].reshape(N, B * H), g.view(-1, B * H))
                other += g
            back_to(other, z2, grad_input=g)
            w2_sum.addmm_(g.T, silu_to(z1, out=out))
            b2_sum += g.sum(0)
            torch.mm(g, w2, out=other)
            back_to(other, z1, grad_input=g)
            of_known_sum.addmm_(known[p].T, g)
            torch.mm(of_known_rows, g.T, out=knowns[p])
            graph.sum_slice(g.view(-1, B * H), ends[p].view(N, B * H))
            starts[p].view(N, B * H).zero_().index_add_(0, graph._col, g.view(-1, B * H))
        return None, None, ends, starts, knowns.transpose(1, 2), of_known_sum.T, *sums[1:]


def plain_numbers(*tensors):
    """Whether these are numbers of one dtype on a CPU, in no way to be watched or cast."""
    first = tensors[0]
    return (
        first.device.type == "cpu"
        and first.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == first.dtype for tensor in tensors)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
    )


class EGNNLayer(nn.Module):
    """Messages along edges, which move the points and renew their features.

    With the squared distance ``d = |x_i - x_j|^2`` and what the edge is known by, ``m_ij = phi_m([d, h_i, h_j, e_ij])``;
    ``x_i`` moves by ``phi_v(h_i) v_i`` and by the mean over neighbours of ``(x_i - x_j) phi_x(m_ij)``, no further than
    100 a coordinate; ``h_i`` becomes ``phi_h([h_i, sum_j m_ij])``, and nothing is added to what it was. Velocities stay
    as they are. Section 3 of the paper.

    The first map of ``phi_m`` is taken apart: its share of ``h_i`` and ``h_j`` is computed at nodes, which are fewer than
    edges.

    Parameters
    ----------
    width : int
        Coordinates of features and of messages.
    edge_features : int
        Coordinates of what an edge is known by; may be 0.

    Raises
    ------
    ValueError
        For a width that is not positive, or a negative number of edge features.
    """

    def __init__(self, width, edge_features=0):
        super().__init__()
        width, edge_features = whole("width", width), whole("edge_features", edge_features, 0)
        self.width, self.edge_features = width, edge_features
        self.message = nn.Sequential(
            nn.Linear(1 + 2 * width + edge_features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.position = perceptron(width, width, 1)
        self.velocity = perceptron(width, width, 1)
        self.feature = perceptron(2 * width, width, width)

    def forward(self, x, v, h, graph, edge_features=None):
        """New positions ``[..., n, 3]`` and features ``[..., n, H]``.

        Parameters
        ----------
        x, v : torch.Tensor
            Positions and velocities ``[..., n, 3]``; leading axes, such as time slices, are graphs of their own.
        h : torch.Tensor
            Invariant features ``[..., n, H]``.
        graph : Graph
            Of n nodes.
        edge_features : torch.Tensor, optional
            ``[m, E]``, in the order of ``graph.edges`` and the same in all slices.

        Raises
        ------
        ValueError
            For shapes that do not suit each other, the layer or the graph.
        """
        leading = x.shape[:-2]
        shape = (*leading, graph.nodes)
        for name, value, last in (("positions", x, 3), ("velocities", v, 3), ("features", h, self.width)):
            if value.shape != (*shape, last):
                raise ValueError(
                    f"{name} must be of shape {(*shape, last)} for this graph and layer, got {tuple(value.shape)}"
                )
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x)
        x, h = self.folded(graph.fold(x), graph.fold(v), graph.fold(h), graph, edge_features)
        return graph.unfold(x, leading), graph.unfold(h, leading)

    def folded(self, x, v, h, graph, edge_features):
        """As :meth:`forward`, on values that :meth:`Graph.fold` and :meth:`Graph.fold_edges` made; nothing is checked."""
        H = self.width
        first, second = self.message[0], self.message[2]
        of_d, of_ends, of_starts, of_edges = first.weight.split([1, H, H, self.edge_features], dim=1)
        apart = graph.joined(x, x, sign=-1)
        P, M, B, _ = apart.shape
        known = apart.square().sum(-1, keepdim=True)
        if self.edge_features:
            # As part of one product, what never changes costs less than as a sum that is kept.
            known = torch.cat([known, edge_features.expand(P, -1, -1, -1)], dim=-1)
            of_d = torch.cat([of_d, of_edges], dim=1)
        ends, starts = linear(h, of_ends, first.bias), linear(h, of_starts)
        rest = [*second.parameters(), *self.position.parameters()]
        if plain_numbers(ends, starts, known, of_d):
            weight, heard, _ = Messages.apply(
                graph, torch.is_grad_enabled(), ends, starts, known.flatten(1, 2), of_d, *rest
            )
        else:
            weight, heard = plain_messages(graph, ends, starts, known, of_d, *rest)
        shift = graph.averaged(apart * weight.view(P, M, B, 1)).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        own, others = self.feature[0].weight.split(H, dim=1)
        new = linear(h, own, self.feature[0].bias) + linear(heard, others)
        return torch.addcmul(x, self.velocity(h), v) + shift, self.feature[2](silu(new))


def perceptron(fan_in, width, fan_out):
    """Two linear maps and a SiLU between them."""
    return nn.Sequential(nn.Linear(fan_in, width), nn.SiLU(), nn.Linear(width, fan_out))


def fold_edge_features(graph, values, wanted, x):
    """Edge features ``[M, B, E]`` of the dtype of ``x``; ValueError unless there are ``wanted`` for each edge."""
    if values is None:
        values = x.new_empty(graph.edges.shape[1], 0)
    if values.shape != (graph.edges.shape[1], wanted):
        raise ValueError(
            f"edge features must be of shape {(graph.edges.shape[1], wanted)}, one row an edge, got {tuple(values.shape)}"
        )
    return graph.fold_edges(values.to(x.dtype))


def check_sizes(**sizes):
    """The sizes as int, in their order; ValueError for one that is not a positive whole number."""
    return [whole(name, value) for name, value in sizes.items()]
