"""The chapter's pictures of networks on graphs, drawn from stored results alone."""

import numpy as np

from loupe.experiment.render import Block, score_table
from loupe.experiment.results import find
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.frechet_mean.claims_links import outcome, outcomes, scores
from loupe.papers.frechet_mean.figures import draw_runs, graph_name
from loupe.plotting import GROUND, MUTED, SERIES, figure, series

RANK = {"Fréchet": 0, "HGCN": 1, "HNN": 2, "GCN": 3, "MLP": 4}
"""The color of each method, in every figure."""

LINKS = ("disease_links", "airport_links", "cora_links", "pubmed_links")
AVERAGES = {"HGCN": "tangent average (HGCN)", "Fréchet": "Fréchet mean"}

REPORTED = {
    "disease_lp": {"MLP": "72.6 ± 0.6", "GCN": "64.7 ± 0.5", "HNN": "75.1 ± 0.3", "HGCN": "90.8 ± 0.3"},
    "airport": {"MLP": "89.8 ± 0.5", "GCN": "89.3 ± 0.4", "HNN": "90.8 ± 0.2", "HGCN": "96.4 ± 0.1"},
    "cora": {"MLP": "83.1 ± 0.5", "GCN": "90.4 ± 0.2", "HNN": "89.0 ± 0.1", "HGCN": "92.9 ± 0.1"},
}
"""Test ROC AUC as reported by HGCN; the paper's own row could not be read."""


@drawn_from("disease_links", what="link prediction on the disease tree")
def training(found):
    """Validation score against epochs, one line a run, for the two aggregations."""
    run = found.runs.first
    every, column = int(run["check_every"]), list(run["names"]).index("validation ROC")
    sheet, axes = figure(height=3.4)
    for method, label in AVERAGES.items():
        curves = 100 * found.runs["curves"][:, list(run["methods"]).index(method), :, column]
        color = SERIES[RANK[method]].colour
        epochs = every * np.arange(1, curves.shape[1] + 1)
        draw_runs(axes, epochs, curves, color=color, linewidth=0.9, alpha=0.8)
        stops = [one.stop for one in outcomes(found.runs, method, patience=True)]
        heights = [curve[stop // every - 1] for curve, stop in zip(curves, stops, strict=True)]
        axes.plot(stops, heights, "X", markersize=6, color=color, markeredgecolor=GROUND)
        axes.plot([], [], color=color, label=label)
    axes.plot([], [], "X", color=MUTED, label="published rule stops here")
    axes.set(xlabel="epochs", ylabel="validation ROC AUC, %", title="Who arrives, and when the rule stops")
    axes.legend(loc="lower right")
    return Picture(
        sheet,
        "Validation AUC against epochs for both aggregations, a line for each seed, with a cross where the published "
        "stopping rule ends each run.",
        f"Link prediction on {graph_name(run['graph'])}; one line a run. A line ends when the score has not risen for as "
        f"long as we wait. Crosses: no better score for {int(run['patience'])} epochs.",
    )


def _computed(chapter):
    """The fullest runs of link prediction on each graph that has any."""
    return [found for name in LINKS if (found := find(chapter, (name,)))]


@drawn_from("disease_links", what="link prediction")
def link_table(found):
    """Test AUC of each method and graph that has been computed, by both rules, beside the reported numbers."""
    rows = []
    for one in _computed(found.chapter):
        graph = str(one.runs.first["graph"])
        for method in map(str, one.runs.first["methods"]):
            best = outcomes(one.runs, method, patience=False)
            rows.append((
                (graph_name(graph), method), REPORTED.get(graph, {}).get(method, "not available"),
                scores(one.runs, method, patience=True), [each.score for each in best],
                f"{np.mean([each.epoch for each in best]):,.0f}", f"{len(one.runs)}, {one.preset}",
            ))  # fmt: skip
    head = ("graph, method", "reported", "published rule", "best epoch", "that epoch", "seeds")
    return score_table(head, rows, digits=1)


@drawn_from("disease_links", what="link prediction")
def bars(found):
    """F5: test AUC of each method on each graph."""
    computed = _computed(found.chapter)
    sheet, axes = figure(height=3.4)
    shown = set()
    for place, one in enumerate(computed):
        methods = [method for method in reversed(RANK) if method in list(one.runs.first["methods"])]
        shown.update(methods)
        for k, method in enumerate(methods):
            each, look = scores(one.runs, method, patience=False), series(RANK[method])
            x = place + 0.15 * (k - (len(methods) - 1) / 2)
            axes.plot(np.full(len(each), x), each, ".", color=look["color"], alpha=0.5, markersize=5)
            axes.plot(x, each.mean(), linestyle="none", markersize=7, **look)
    for method in RANK:
        if method in shown:
            axes.plot([], [], linestyle="none", label=method, **series(RANK[method]))
    names = [graph_name(one.runs.first["graph"]) for one in computed]
    axes.set_xticks(range(len(names)), names)
    axes.set(
        xlim=(-0.6, len(names) - 0.4),
        ylabel="test ROC AUC, %",
        title="Link prediction, the graphs computed so far",
    )
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.1), columnspacing=0.8, handletextpad=0.1)
    others = [
        f"{name} ({one.label})" for name, one in zip(names, computed, strict=True) if one.label != found.label
    ]
    return Picture(
        sheet,
        "Test AUC of up to five methods on each graph, dots for single seeds and larger marks for their means.",
        "Test ROC AUC at the best validation epoch of the whole run; small dots are seeds, marks their means."
        + f" Of other runs: {', '.join(others)}." * bool(others),
    )


@drawn_from("shortcuts", what="the look at single features")
def shortcut_table(found):
    """Test AUC on the disease tree without training: by nearness in one feature at a time, and by degree."""
    columns = 100 * found.runs["columns"]
    order = np.argsort(-columns.mean(axis=0))
    words = {order[0]: "", order[1]: "", order[-1]: ", the worst"}
    rows = [(f"nearness in feature {k}{more}", columns[:, k]) for k, more in words.items()]
    rows.append(("the larger degree of the two nodes", 100 * found.runs["degree"]))
    return score_table((f"guessed by, {found.label}", "test ROC AUC, %"), rows, digits=1)


@drawn_from("shortcuts", what="the look at single features")
def feature_sentence(found):
    """Where the features of the disease tree lie, in one sentence."""
    run = found.runs.first
    text = (
        f"The median node begins at a distance of {run['median_distance']:.1f} from the origin (curvature −1), and "
        f"{100 * run['beyond_margin']:.0f} % of the nodes begin beyond {run['margin']:.1f}, where the margin that "
        "keeps single precision off the boundary pulls them back, each by a factor of its own."
    )
    return Block(text, markdown=text)


@drawn_from("disease_links", what="the comparison of features")
def sizes_table(plain):
    """Beyond the paper: both aggregations on features of other sizes, and without the one that gives the edges away."""
    cases = [("as they are", plain, "")]
    if scaled := find(plain.chapter, ("feature_sizes",)):
        cases += [(f"all times {scale:g}", scaled, f"{scale:g} ") for scale in scaled.runs.first["scales"]]
    if without := find(plain.chapter, ("without_position",)):
        cases.append(("without that one", without, ""))
    rows = [
        (words, *(scores(one.runs, method, patience=False, prefix=prefix) for method in AVERAGES),
         f"{one.runs.seeds[0]} to {one.runs.seeds[-1]}, {one.preset}")
        for words, one, prefix in cases
    ]  # fmt: skip
    return score_table(("features", "tangent average", "Fréchet mean", "seeds"), rows, digits=1)


@drawn_from("node_classes", what="node classification")
def node_table(found):
    """Node classification: test F1 on the tree, accuracy elsewhere, at the best validation epoch."""
    run, rows = found.runs.first, []
    for g, graph in enumerate(map(str, run["graphs"])):
        score = "F1" if graph.startswith(("disease", "generated")) else "accuracy"
        reading = {"validation": ("validation F1",), "test": f"test {score}"}
        for m, method in enumerate(map(str, run["methods"])):
            each = [
                outcome(curves[g, m], run["names"], int(run["check_every"]), **reading).score
                for curves in found.runs["curves"]
            ]
            rows.append(((graph_name(graph), method), score, each))
    return score_table((f"graph, method, {found.label}", "score", "test, %"), rows, digits=1)


@drawn_from("batch_norm", what="the comparison of batch normalization")
def norm_curves(found):
    """F6: validation loss and AUC with and without Riemannian batch normalization."""
    run = found.runs.first
    names, every, graphs = list(run["names"]), int(run["check_every"]), run["graphs"]
    sheet, panels = figure(height=4.4, rows=2, columns=len(graphs), sharex=True, squeeze=False)
    for g, graph in enumerate(graphs):
        for axes, name, factor in zip(
            panels[:, g], ("validation loss", "validation ROC"), (1, 100), strict=True
        ):
            for with_norm in (1, 0):
                curves = factor * found.runs["curves"][:, g, with_norm, :, names.index(name)]
                epochs, color = every * np.arange(1, curves.shape[1] + 1), SERIES[1 - with_norm].colour
                draw_runs(axes, epochs, curves, color=color, linewidth=0.7, alpha=0.5)
                axes.plot(epochs, curves.mean(0), color=color, label=("without", "with")[with_norm])
        panels[0, g].set_yscale("log")
        panels[0, g].set_title(graph_name(graph))
        panels[1, g].set_xlabel("epochs")
        panels[1, g].axvspan(0, int(run["area"]), color=MUTED, alpha=0.1, linewidth=0)
    panels[0, 0].set_ylabel("validation loss")
    panels[1, 0].set_ylabel("validation ROC AUC, %")
    panels[0, 0].legend()
    return Picture(
        sheet,
        "Validation loss above and validation AUC below against epochs, with and without batch normalization.",
        "A hyperbolic network (HNN) with and without Riemannian batch normalization, all seeds (thin) and their mean "
        f"(thick). FM9 compares the area below the AUC over the shaded {int(run['area'])} epochs.",
    )
