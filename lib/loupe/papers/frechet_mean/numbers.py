"""The numbers in the chapter's paragraphs, by name: each from the largest preset that has its results."""

import numpy as np
from sklearn.metrics import roc_auc_score

from loupe.data import load
from loupe.data.graph_tasks import link_split
from loupe.experiment.render import over_seeds
from loupe.experiment.results import find, row
from loupe.papers.frechet_mean.claims import areas
from loupe.papers.frechet_mean.claims_links import both_scores, scores
from loupe.papers.frechet_mean.figures import times


def numbers(chapter):
    """All of them; strings are finished, with their intervals."""
    parts = (_means, _times, _links, _features, _norms)
    return {name: value for part in parts for name, value in part(chapter).items()}


def _means(chapter):
    exact, study, graphs = (
        find(chapter, (name,)).runs.first for name in ("identities", "solver_study", "hyperbolicity")
    )
    solvers = ("ours", "Karcher", "step 0.01", "best step")
    values = {
        f"iterations {one}": row(study, "iterations", space="ball", solver=one).mean() for one in solvers
    }
    values |= {name: exact[name].max() for name in exact if exact[name].dtype.kind == "f"}
    for name in ("maximum", "mean", "diameter"):
        values |= {f"{graph} {name}": each for graph, each in zip(graphs["graph"], graphs[name], strict=True)}
    return values


def _times(chapter):
    bench, size = chapter.benchmark(), "1024×32×16"
    found = {part: times(bench, part)[size] for part in ("forward", "backward")}
    cora = next(row for row in bench["rows"] if row["task"] == "Cora" and row["precision"] == "float32")
    return {f"{part} {word}": ms for part, each in found.items() for word, ms in each.items()} | {
        f"{part} on Cora": cora[f"{part}, ms"] for part in found
    }


def _links(chapter):
    found = find(chapter, ("disease_links", "cora_links"))
    values = {"links": found.label} | leaks(found["disease_links"].seeds)
    for graph, runs in zip(("tree", "Cora"), found.runs.values(), strict=True):
        methods = runs.first["method"]
        values |= {f"{graph} {one}": scores(runs, patience=False, method=one).mean() for one in methods}
        values |= gaps(runs, graph)
    return values


def gaps(runs, name, **labels):
    """Points of AUC that the Fréchet mean is ahead of the tangent average, by both rules."""
    both = {f"{name} gap by the rule": True, f"{name} gap": False}
    return {
        key: over_seeds(np.subtract(*both_scores(runs, patience=rule, **labels)), 1)
        for key, rule in both.items()
    }


def leaks(seeds):
    """What splits of the disease tree give away: shares of pairs with an isolated end, and the AUC of a guess."""
    tree, found = load("disease_lp"), []
    for seed in seeds:
        split = link_split(tree, seed=seed)
        pairs = np.concatenate([split.test, split.test_negatives])
        truth = np.arange(len(pairs)) < len(split.test)
        degree = np.bincount(split.train.ravel(), minlength=tree.num_nodes)[pairs]
        alone = degree.min(1) == 0
        guess = roc_auc_score(truth, tree.num_nodes * alone + degree.max(1))
        found.append([alone[truth].mean(), alone[~truth].mean(), 100 * guess])
    return dict(zip(("alone_edges", "alone_others", "alone_auc"), np.mean(found, axis=0), strict=True))


def _features(chapter):
    small, blind, look = (
        find(chapter, (name,)).runs for name in ("feature_sizes", "without_position", "shortcuts")
    )
    columns = np.sort(100 * look["columns"].mean(axis=0))
    values = {name: float(look.first[name]) for name in ("median_distance", "margin", "beyond_margin")}
    values |= {"best column": columns[-1], "second column": columns[-2]} | gaps(small, "small", scale=0.1)
    return values | {
        f"blind {name}": over_seeds(scores(blind, patience=False, method=name), 1)
        for name in ("HGCN", "Fréchet")
    }


def _norms(chapter):
    runs = find(chapter, ("batch_norm",)).runs
    return {
        f"norm {graph}": over_seeds(100 * (areas(runs, graph, True) - areas(runs, graph, False)), 1)
        for graph in dict.fromkeys(runs.first["graph"])
    }
