"""A layer of an equivariant graph network: its output rotates, translates and permutes with its input.

After Satorras, Hoogeboom and Welling, E(n) Equivariant Graph Neural Networks, 2021, in the form that Xu et al.,
Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024, apply to every time slice of a trajectory.
"""

import torch
from torch import nn
from torch.nn.functional import linear, silu

from loupe.checks import whole
from loupe.derivatives import transformed
from loupe.networks.graphs import LARGEST_DENSE, Graph, as_graph

__all__ = ["LARGEST_DENSE", "EGNNLayer", "Graph"]

LARGEST_SHIFT = 100.0


def plain_messages(graph, ends, starts, known, of_known, w2, b2, w3, b3, w4, b4):
    """The edge computation: weights of differences ``[P, M B, 1]``, and summed messages ``[P, N, B, H]``."""
    P, _, B, H = ends.shape
    pairs = graph.joined(ends, starts)
    m = torch.addmm(pairs.reshape(-1, H), known.reshape(-1, known.shape[-1]), of_known.T)
    m = silu(linear(silu(m), w2, b2))
    weight = linear(silu(linear(m, w3, b3)), w4, b4)
    return weight.view(P, -1, 1), graph.summed(m.view(P, -1, B, H))


class Messages(torch.autograd.Function):
    """:func:`plain_messages` for a CPU, slice by slice to stay in the cache, with hand-written gradients.

    For the backward pass each slice keeps three arrays, the inputs of the three SiLUs; gradient sums are formed in
    place. Where autograd records the backward pass, the plain computation provides it.
    """

    @staticmethod
    def forward(graph, keep, ends, starts, known, of_known, w2, b2, w3, b3, w4, b4):
        """Weights of differences ``[P, M B, 1]``, summed messages ``[P, N, B, H]`` and kept arrays ``[3, P, M B, H]``."""
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
        """Keep what the backward pass needs."""
        ctx.graph, _, *inputs = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)  # otherwise zeros as large as all kept arrays would be created
        ctx.save_for_backward(*inputs, output[2])

    @staticmethod
    def backward(ctx, weight_grad, heard_grad, _):
        """Gradients with respect to the inputs of :meth:`forward`."""
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
        # Two narrow products are several times faster transposed, with few long rows.
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
                # Add the gradients through the summed message and through its weight.
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
    """Whether these are plain CPU tensors of one dtype, without transforms or autocast."""
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
    """Messages along edges, which move the points and update their features.

    With the squared distance ``d = |x_i - x_j|^2`` and edge features ``e_ij``, ``m_ij = phi_m([d, h_i, h_j, e_ij])``;
    ``x_i`` moves by ``phi_v(h_i) v_i`` and by the mean over neighbors of ``(x_i - x_j) phi_x(m_ij)``, at most 100 in
    each coordinate; ``h_i`` becomes ``phi_h([h_i, sum_j m_ij])``, without a residual connection. Velocities do not
    change. Section 3 of the paper.

    The first linear map of ``phi_m`` is split: its part for ``h_i`` and ``h_j`` is computed at nodes, which are fewer
    than edges.

    Parameters
    ----------
    width : int
        Number of features and of message channels.
    edge_features : int
        Number of edge features; may be 0.

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
        self.position = mlp(width, width, 1)
        self.velocity = mlp(width, width, 1)
        self.feature = mlp(2 * width, width, width)

    def forward(self, x, v, h, graph, edge_features=None):
        """New positions ``[..., n, D]`` and features ``[..., n, H]``.

        Parameters
        ----------
        x, v : torch.Tensor
            Positions and velocities ``[..., n, D]`` in D dimensions; leading axes, such as time slices, are separate
            graphs.
        h : torch.Tensor
            Invariant features ``[..., n, H]``.
        graph : Graph or torch.Tensor
            A graph of n nodes, or its edges (2, m), which are converted at each call.
        edge_features : torch.Tensor, optional
            ``[m, E]``, in the order of ``graph.edges`` and the same in all slices.

        Raises
        ------
        ValueError
            For shapes that do not fit each other, the layer or the graph.
        """
        graph = as_graph(graph, x.shape[-2])
        leading, D = x.shape[:-2], x.shape[-1]
        shape = (*leading, graph.nodes)
        for name, value, last in (("positions", x, D), ("velocities", v, D), ("features", h, self.width)):
            if value.shape != (*shape, last):
                raise ValueError(
                    f"{name} must be of shape {(*shape, last)} for this graph and layer, got {tuple(value.shape)}"
                )
        edge_features = fold_edge_features(graph, edge_features, self.edge_features, x)
        x, h = self.folded(graph.fold(x), graph.fold(v), graph.fold(h), graph, edge_features)
        return graph.unfold(x, leading), graph.unfold(h, leading)

    def folded(self, x, v, h, graph, edge_features):
        """Like :meth:`forward`, on values from :meth:`Graph.fold` and :meth:`Graph.fold_edges`, without checks."""
        H = self.width
        first, second = self.message[0], self.message[2]
        of_d, of_ends, of_starts, of_edges = first.weight.split([1, H, H, self.edge_features], dim=1)
        apart = graph.joined(x, x, sign=-1)
        P, M, B, _ = apart.shape
        known = apart.square().sum(-1, keepdim=True)
        if self.edge_features:
            # Constant parts cost less inside one product than as a stored sum.
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


def mlp(fan_in, width, fan_out):
    """An MLP: two linear maps with a SiLU between them."""
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
