"""The chapter's pictures of networks on graphs, drawn from stored results alone."""

import numpy as np

from loupe.experiment.render import Block, over_seeds, table
from loupe.experiment.results import Found, absent, stored, stored_at
from loupe.papers.frechet_mean.claims_links import outcome, outcomes
from loupe.papers.frechet_mean.figures import WIDTH, _graph
from loupe.plotting import SERIES, figure, series, show

RANK = {"Fréchet": 0, "HGCN": 1, "HNN": 2, "GCN": 3, "MLP": 4}
LINKS = ("disease_links", "airport_links", "cora_links", "pubmed_links")

_REPORTED_METHODS = ("MLP", "GCN", "HNN", "HGCN", "Fréchet")
REPORTED = {
    graph: dict(zip(_REPORTED_METHODS, scores, strict=True))
    for graph, scores in {
        "disease_lp": ("72.6 ± 0.6", "64.7 ± 0.5", "75.1 ± 0.3", "90.8 ± 0.3", "not available"),
        "airport": ("89.8 ± 0.5", "89.3 ± 0.4", "90.8 ± 0.2", "96.4 ± 0.1", "not available"),
        "cora": ("83.1 ± 0.5", "90.4 ± 0.2", "89.0 ± 0.1", "92.9 ± 0.1", "not available"),
    }.items()
}
"""Test ROC AUC as reported by HGCN; the paper's own row could not be read."""


def _fullest(chapter, name):
    """The runs at full length where they exist, else those of the preset at hand."""
    runs = stored_at(chapter, name, "gpu")
    return stored(chapter, name) if runs is None else Found(runs, "gpu")


def training(chapter, name="disease_links"):
    """Validation score against epochs, one line a run, for the two aggregations."""
    found = stored(chapter, name)
    if found is None:
        return absent(name)
    runs, run = found.runs, found.runs.first
    every, column = int(run["check_every"]), list(run["names"]).index("validation ROC")
    sheet, axes = figure(WIDTH, 3.4)
    for method in ("HGCN", "Fréchet"):
        curves = 100 * runs["curves"][:, list(run["methods"]).index(method), :, column]
        epochs = every * np.arange(1, curves.shape[1] + 1)
        colour = SERIES[RANK[method]].colour
        axes.plot(epochs, curves.T, color=colour, linewidth=0.9, alpha=0.8)
        for curve in runs["curves"]:
            stop = outcome(
                curve[list(run["methods"]).index(method)], run["names"], every, int(run["patience"])
            )
            height = 100 * curve[list(run["methods"]).index(method), stop.stop // every - 1, column]
            axes.plot(
                stop.stop,
                height,
                linestyle="none",
                markersize=6,
                color=colour,
                marker="X",
                markeredgecolor="white",
            )
        axes.plot(
            [], [], color=colour, label={"HGCN": "tangent average (HGCN)", "Fréchet": "Fréchet mean"}[method]
        )
    axes.plot([], [], "X", color="#6b7280", label="published rule stops here")
    axes.set(xlabel="epochs", ylabel="validation ROC AUC, %", title="Who arrives, and when the rule stops")
    axes.legend(loc="lower right")
    return show(
        sheet,
        alt="Validation AUC against epochs for both aggregations, a line for each seed, with a cross where the published "
        "stopping rule ends each run.",
        caption=f"Link prediction on {_graph(run['graph'])}, {len(runs)} seeds; one line a run. A line ends when the score "
        f"has not risen for as long as we wait. Crosses: no better score for {int(run['patience'])} epochs. "
        f"Preset `{found.preset}`.",
    )


def link_table(chapter):
    """Test AUC of each method and graph that has been computed, by both rules, beside the reported numbers."""
    rows = []
    for name in LINKS:
        found = _fullest(chapter, name)
        if found is None:
            continue
        runs, graph = found.runs, str(found.runs.first["graph"])
        for method in runs.first["methods"]:
            by_rule, at_best = (outcomes(runs, method, patience=patience) for patience in (True, False))
            rows.append(
                (
                    f"{_graph(graph)}, {method}",
                    REPORTED.get(graph, {}).get(str(method), "not available"),
                    over_seeds([one.score for one in by_rule], 1),
                    over_seeds([one.score for one in at_best], 1),
                    f"{np.mean([one.epoch for one in at_best]):,.0f}",
                    f"{len(runs)}, {found.preset}",
                )
            )
    head = ("graph, method", "reported", "published rule", "best epoch", "that epoch", "seeds")
    return table(head, rows, numeric=True)


def shortcut_table(chapter):
    """Test AUC on the disease tree without training: by nearness in one feature at a time, and by degree."""
    found = stored(chapter, "shortcuts")
    if found is None:
        return absent("the look at single features")
    columns, degree = 100 * found.runs["columns"], 100 * found.runs["degree"]
    order = np.argsort(-columns.mean(axis=0))
    rows = [(f"nearness in feature {k}", over_seeds(columns[:, k], 1)) for k in order[:2]]
    rows.append((f"nearness in feature {order[-1]}, the worst", over_seeds(columns[:, order[-1]], 1)))
    rows.append(("the larger degree of the two nodes", over_seeds(degree, 1)))
    return table(("guessed by", "test ROC AUC, %"), rows, numeric=True)


def feature_sentence(chapter):
    """Where the features of the disease tree lie, in one sentence."""
    found = stored(chapter, "shortcuts")
    if found is None:
        return absent("the look at single features")
    run = found.runs.first
    text = (
        f"The median node begins at a distance of {run['median_distance']:.1f} from the origin (curvature −1), and "
        f"{100 * run['beyond_margin']:.0f} % of the nodes begin beyond {run['margin']:.1f}, where the margin that "
        "keeps single precision off the boundary pulls them back, each by a factor of its own."
    )
    return Block(text, markdown=text)


def bars(chapter):
    """F5: test AUC of each method on each graph."""
    found = [one for one in (_fullest(chapter, name) for name in LINKS) if one is not None]
    if not found:
        return absent("link prediction")
    sheet, axes = figure(WIDTH, 3.4)
    for place, runs in enumerate(one.runs for one in found):
        methods = [method for method in RANK if method in list(runs.first["methods"])]
        for k, method in enumerate(reversed(methods)):
            scores = [one.score for one in outcomes(runs, method, patience=False)]
            x = place + 0.15 * (k - (len(methods) - 1) / 2)
            colour = SERIES[RANK[method]].colour
            axes.plot(np.full(len(scores), x), scores, ".", color=colour, alpha=0.5, markersize=5)
            axes.plot(x, np.mean(scores), linestyle="none", markersize=7, **series(RANK[method]))
    for method in RANK:
        if any(method in list(one.runs.first["methods"]) for one in found):
            axes.plot([], [], linestyle="none", label=method, **series(RANK[method]))
    names = [_graph(one.runs.first["graph"]) for one in found]
    axes.set_xticks(range(len(found)), names)
    axes.set_xlim(-0.6, len(found) - 0.4)
    axes.set(ylabel="test ROC AUC, %", title="Link prediction, the graphs computed so far")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.1), columnspacing=0.8, handletextpad=0.1)
    counts = ", ".join(
        f"{name} {len(one.runs)} at `{one.preset}`" for name, one in zip(names, found, strict=True)
    )
    return show(
        sheet,
        alt="Test AUC of up to five methods on each graph, dots for single seeds and larger marks for their means.",
        caption="Test ROC AUC at the best validation epoch of the whole run; small dots are seeds, marks their means. "
        f"Seeds: {counts}.",
    )


def sizes_table(chapter):
    """Beyond the paper: both aggregations on features of other sizes, and without the one that gives the edges away."""
    plain, scaled, without = (
        _fullest(chapter, name) for name in ("disease_links", "feature_sizes", "without_position")
    )
    rows = []
    if plain is not None:
        rows.append(("as they are", *_pair(plain.runs), _seeds(plain.runs)))
    if scaled is not None:
        for scale in scaled.runs.first["scales"]:
            rows.append((f"all times {scale:g}", *_pair(scaled.runs, f"{scale:g} "), _seeds(scaled.runs)))
    if without is not None:
        rows.append(("without that one", *_pair(without.runs), _seeds(without.runs)))
    if not rows:
        return absent("the comparison of features")
    return table(("features", "tangent average", "Fréchet mean", "seeds"), rows, numeric=True)


def _pair(runs, prefix=""):
    return [
        over_seeds([one.score for one in outcomes(runs, method, patience=False, prefix=prefix)], 1)
        for method in ("HGCN", "Fréchet")
    ]


def _seeds(runs):
    return f"{runs.seeds[0]} to {runs.seeds[-1]}"


def node_table(chapter):
    """Node classification: test F1 on the tree, accuracy elsewhere, at the best validation epoch."""
    found = stored(chapter, "node_classes")
    if found is None:
        return absent("node classification")
    runs, run, rows = found.runs, found.runs.first, []
    for g, graph in enumerate(run["graphs"]):
        test = "test F1" if str(graph).startswith(("disease", "generated")) else "test accuracy"
        for m, method in enumerate(run["methods"]):
            scores = [
                outcome(
                    curves[g, m],
                    run["names"],
                    int(run["check_every"]),
                    validation=("validation F1",),
                    test=test,
                ).score
                for curves in runs["curves"]
            ]
            rows.append((f"{_graph(graph)}, {method}", test.removeprefix("test "), over_seeds(scores, 1)))
    return table(("graph, method", "score", "test, %"), rows, numeric=True)


def norm_curves(chapter):
    """F6: validation loss and AUC with and without Riemannian batch normalisation."""
    found = stored(chapter, "batch_norm")
    if found is None:
        return absent("the comparison of batch normalisation")
    runs, run = found.runs, found.runs.first
    names, every, graphs = list(run["names"]), int(run["check_every"]), run["graphs"]
    sheet, panels = figure(WIDTH, 4.4, rows=2, columns=len(graphs), sharex=True, squeeze=False)
    for g, graph in enumerate(graphs):
        for row, (name, factor, label) in enumerate(
            (("validation loss", 1, "validation loss"), ("validation ROC", 100, "validation ROC AUC, %"))
        ):
            axes = panels[row, g]
            for with_norm in (1, 0):
                curves = factor * runs["curves"][:, g, with_norm, :, names.index(name)]
                epochs = every * np.arange(1, curves.shape[1] + 1)
                colour = SERIES[1 - with_norm].colour
                axes.plot(epochs, curves.T, color=colour, linewidth=0.7, alpha=0.5)
                axes.plot(epochs, curves.mean(0), color=colour, label=("without", "with")[with_norm])
            if name == "validation loss":
                axes.set_yscale("log")
            if g == 0:
                axes.set_ylabel(label)
        panels[0, g].set_title(_graph(graph))
        panels[1, g].set_xlabel("epochs")
        panels[1, g].axvspan(0, int(run["area"]), color="#f0f9f7", zorder=0)
    panels[0, 0].legend()
    return show(
        sheet,
        alt="Validation loss above and validation AUC below against epochs, with and without batch normalisation.",
        caption=f"A hyperbolic network (HNN) with and without Riemannian batch normalisation, {len(runs)} seeds (thin) and "
        f"their mean (thick). The area that FM9 compares is that below the AUC over the shaded {int(run['area'])} epochs.",
    )
