"""What a tree's features give away without any network, and what is left when they do not."""

from dataclasses import replace

import numpy as np
import torch

from loupe.data.graph_tasks import link_split, node_inputs
from loupe.experiment import experiment
from loupe.geometry.networks import MARGINS
from loupe.papers.frechet_mean.experiments_graphs import compare_links, link_task, load_graph


@experiment
def shortcuts(config, *, seed, device):
    """Test AUC of link prediction on the disease tree without training: by one feature at a time, and by degree."""
    from sklearn.metrics import roc_auc_score

    graph = load_graph(config, config.disease)
    split = link_split(graph, seed=seed)
    features = node_inputs(graph, "link", split.train, normalize=False)
    pairs = np.concatenate([split.test, split.test_negatives])
    truth = np.repeat([1, 0], [len(split.test), len(split.test_negatives)])
    # An edge is guessed where the values of its ends are near each other.
    nearness = -np.abs(features[pairs[:, 0]] - features[pairs[:, 1]])
    # exp_0 takes a vector of length r to the distance 2 r.
    distance = 2 * np.linalg.norm(features, axis=1)
    margin = 2 * np.arctanh(1 - MARGINS[torch.float32])  # that of the networks here
    degree = np.bincount(split.train.ravel(), minlength=graph.num_nodes)
    return {
        "columns": np.array([roc_auc_score(truth, column) for column in nearness.T]),
        "position": config.position_column,
        "median_distance": float(np.median(distance)),
        "margin": float(margin),
        "beyond_margin": float((distance > margin).mean()),
        "degree": roc_auc_score(truth, degree[pairs].max(axis=1)),
    }


@experiment(seeds="scale_seeds")
def without_position(config, *, seed, device):
    """Link prediction on the disease tree without the feature that is the node's place in a drawing of the tree."""
    task = link_task(config, config.disease, seed, device)
    features = task.features.clone()
    features[:, config.position_column] = 0
    return compare_links(config, replace(task, features=features), methods=("HGCN", "Fréchet"))
