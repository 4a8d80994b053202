"""The chapter's pictures and tables of networks on graphs."""

import numpy as np

from loupe.experiment.render import score_table
from loupe.experiment.results import find
from loupe.papers.drawing import Picture, drawn_from
from loupe.papers.frechet_mean import claims_links
from loupe.papers.frechet_mean.claims_links import scores
from loupe.plotting import MUTED, SERIES, figure, log_axis

GRAPHS = {
    "disease_lp": "disease (tree)", "airport": "airport", "cora": "Cora", "pubmed_partial": "PubMed",
    "generated": "generated tree",
}  # fmt: skip
"""The names of the graphs that readers know."""

RANK = {"Fréchet": 0, "HGCN": 1, "HNN": 2, "GCN": 3, "MLP": 4}
"""The color of each method, in every figure."""

LINKS = ("disease_links", "airport_links", "cora_links", "pubmed_links")

REPORTED = {
    "disease_lp": {"MLP": "72.6 ± 0.6", "GCN": "64.7 ± 0.5", "HNN": "75.1 ± 0.3", "HGCN": "90.8 ± 0.3"},
    "airport": {"MLP": "89.8 ± 0.5", "GCN": "89.3 ± 0.4", "HNN": "90.8 ± 0.2", "HGCN": "96.4 ± 0.1"},
    "cora": {"MLP": "83.1 ± 0.5", "GCN": "90.4 ± 0.2", "HNN": "89.0 ± 0.1", "HGCN": "92.9 ± 0.1"},
}
"""Test ROC AUC as reported by HGCN; the paper's own row could not be read."""


def best_so_far(validation, test):
    """Test ROC AUC in percent at the best validation epoch up to each one, of scores ``(seeds, evaluations)``."""
    validation = np.nan_to_num(validation, nan=-1)
    before = np.maximum.accumulate(np.pad(validation, ((0, 0), (1, 0)), constant_values=-1), axis=1)[:, :-1]
    at = np.maximum.accumulate(np.where(validation > before, np.arange(validation.shape[1]), 0), axis=1)
    return 100 * np.take_along_axis(test, at, axis=1)


@drawn_from("disease_links", "shortcuts", what="link prediction on the disease tree")
def curves(found):
    """What each method would report if it stopped at an epoch, with two rows that need no training."""
    runs, shortcuts = found["disease_links"], found["shortcuts"]
    run, trivial = runs.first, 100 * shortcuts["columns"][:, int(shortcuts.first["position"])].mean()
    every = int(run["check_every"])
    sheet, axes = figure(height=3.9)
    for method in sorted(run["method"], key=RANK.get):
        each = best_so_far(*claims_links.curves(runs, method=method))
        shown = np.unique(np.geomspace(1, each.shape[1], 90).astype(int)) - 1
        axes.plot(every * (shown + 1), each.mean(0)[shown], color=SERIES[RANK[method]].color, label=method)
    for height, words in (
        (trivial, "one feature, untrained"),
        (100 * shortcuts["degree"].mean(), "larger degree"),
    ):
        axes.axhline(height, color=MUTED, linestyle="--", linewidth=1)
        axes.text(every, height + (1.5 if height > 95 else -5), words, color=MUTED)
    axes.set(
        xlabel="epochs",
        ylabel="test ROC AUC, %",
        title="No network reaches the single feature",
        ylim=(20, 110),
        yticks=range(20, 101, 20),
    )
    log_axis(axes)
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.47, -0.17), columnspacing=0.8, handlelength=1)
    return Picture(
        sheet,
        "Test AUC of five methods against epochs on a logarithmic axis. The MLP ends highest, just below the dashed line "
        "of one feature; the Fréchet network ends lowest.",
        "Link prediction on the disease tree, published settings: mean test AUC at the best validation epoch so far. "
        "Dashed: two ways to guess without training.",
    )


def _links(chapter):
    """The fullest runs of link prediction on each graph that has any."""
    return [found for name in LINKS if (found := find(chapter, (name,)))]


@drawn_from("disease_links", what="link prediction")
def link_table(found):
    """Test AUC of each method on each graph, by both rules, beside the reported numbers."""
    rows = []
    for one in _links(found.chapter):
        for graph, method in zip(one.runs.first["graph"], one.runs.first["method"], strict=True):
            both = (scores(one.runs, patience=patience, method=method) for patience in (True, False))
            reported = REPORTED.get(graph, {}).get(method, "not available")
            graph_label = GRAPHS[graph] + f" ({one.label})" * (one.label != found.label)
            rows.append(((graph_label, str(method)), *both, reported))
    head = (found.label, "published rule", "best epoch", "reported")
    return score_table(head, rows, digits=1, best=("max", "max", ""))


@drawn_from("disease_links", what="the comparison of features")
def sizes_table(plain):
    """Both aggregations with features of other sizes, and without the feature that gives the edges away."""
    cases = [("as published", plain, {})]
    if scaled := find(plain.chapter, ("feature_sizes",)):
        scales = dict.fromkeys(scaled.runs.first["scale"])
        cases += [(f"all times {scale:g}", scaled, {"scale": scale}) for scale in scales]
    if without := find(plain.chapter, ("without_position",)):
        cases.append(("no position", without, {}))
    rows = [
        (
            words + f" ({one.label})" * (one.label != plain.label),
            *(scores(one.runs, patience=False, method=method, **labels) for method in ("HGCN", "Fréchet")),
        )
        for words, one, labels in cases
    ]
    return score_table((f"features ({plain.label})", "tangent average", "Fréchet mean"), rows, digits=1)
