"""SRD-9 and SRD-10: densities on SU(3), and outliers among embeddings of images."""

import math
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, normalize

from loupe.diffusion import riemannian
from loupe.diffusion.riemannian import HeatKernel
from loupe.experiment import experiment
from loupe.experiment.results import columns
from loupe.geometry import Product, SpecialUnitary, Sphere
from loupe.geometry.matrices import adjoint, product
from loupe.metrics.importance import effective_sample_size
from loupe.networks.feature_classifier import FeatureClassifier
from loupe.networks.mlp import NoiseMLP
from loupe.papers.judging import flipped, image_set
from loupe.papers.riemannian_diffusion import scores
from loupe.training import Training, train

GROUP = SpecialUnitary(3)
COEFFICIENTS = (-0.9, -0.2, -1.5)
"""Ours, chosen for several modes."""
SIZES = {"cifar10": 32, "mnist": 16, "digits": 8}
KNOWN = 6  # classes below it are trained on
NEIGHBOR = 50
TEMPERATURE = 0.1
EXACT = 48  # points with the exact divergence
LEAPS = 8  # steps of a trajectory
GRID = 256  # points on each axis of the torus
BINS = 64  # of pictures of it


def trace(x):
    """Traces of matrices (..., 3, 3)."""
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


# --- densities ----------------------------------------------------------------------------------------------


def site_action(x):
    """Re tr(c1 U + c2 U^2 + c3 U^3) / 3 of points (n, 1, 3, 3), shape (n,)."""
    x, power, total = x[:, 0], x[:, 0], 0.0
    for c in COEFFICIENTS:
        total, power = total + c * trace(power).real / 3, product(power, x)
    return total


def plaquettes(x):
    """The sum over sites of Re tr(U_x U_{x+1} U_{x+1+2}^† U_{x+2}^†) / 3 of points (n, L L, 3, 3), shape (n,)."""
    side = math.isqrt(x.shape[1])
    x = x.unflatten(1, (side, side))
    rows = product(x, x.roll(-1, 1))
    return trace(product(rows, adjoint(rows.roll(-1, 2)))).real.sum((1, 2)) / 3


def torus():
    """Diagonal matrices (GRID^2, 1, 3, 3) on a grid, and the logs of their Haar weights, by Weyl's formula."""
    angles = 2 * math.pi / GRID * torch.arange(GRID, dtype=torch.float64)
    a, b = (axis.flatten() for axis in torch.meshgrid(angles, angles, indexing="ij"))
    phases = torch.polar(torch.ones(1, dtype=torch.float64), torch.stack([a, b, -a - b], -1))
    gaps = [(phases[:, i] - phases[:, j]).abs().square() for i, j in ((0, 1), (0, 2), (1, 2))]
    return torch.diag_embed(phases).unsqueeze(1), (math.prod(gaps) / (6 * GRID**2)).log()


def site_log_partition(beta):
    """log Z of the single site, by Weyl integration."""
    x, log_weight = torus()
    return (beta * site_action(x) + log_weight).logsumexp(0)


def lattice_log_partition(beta, weights=14):
    r"""log Z of the lattice of 2 by 2: :math:`\sum_r(c_r/d_r)^2`, with the characters of exp(2 beta Re tr U / 3).

    Its matrices A, B, C, D meet only in M = C^† A, N = B D^† and G = D C: the log density is 2 beta / 3 times
    Re tr(M N) + Re tr(G M G^† N), and the integral over G of a character is a product of two.
    """
    x, log_weight = torus()
    z = trace(x[:, 0])
    rows = [torch.zeros_like(z), torch.zeros_like(z), torch.ones_like(z)]
    for _ in range(2 * weights):
        rows.append(z * rows[-1] - z.conj() * rows[-2] + rows[-3])
    h, (p, q) = torch.stack(rows), torch.meshgrid(*[torch.arange(weights)] * 2, indexing="ij")
    characters = (h[p + q + 2] * h[q + 2] - h[p + q + 3] * h[q + 1]).real
    sizes = (p + 1) * (q + 1) * (p + q + 2) / 2
    log = 2 * beta / 3 * z.real + log_weight
    shares = (characters * (log - log.max().detach()).exp()).sum(-1) / sizes
    return shares.square().sum().log() + 2 * log.max().detach()


def exact(log_partition, beta):
    """The row of exact values: the mean and the variance of the action are derivatives of log Z in beta."""
    slope, beta = torch.func.grad(log_partition), torch.tensor(beta, dtype=torch.float64)
    log, mean, variance = (float(f(beta)) for f in (log_partition, slope, torch.func.grad(slope)))
    return {"row": "exact", "mean": mean, "variance": variance, "ESS": 1.0, "log Z": log}


# --- Monte Carlo --------------------------------------------------------------------------------------------


def hmc(log_density, group, x, *, sweeps, generator, step=0.2):
    """Hamiltonian Monte Carlo with Metropolis' test on a matrix group, whose geodesics keep their left coordinates.

    The step size is tuned to an acceptance of 80 % in the first half of the trajectories, which is dropped.

    Parameters
    ----------
    log_density : callable
        Points (n, sites, 3, 3) to log densities (n,), up to a constant.
    group : SpecialUnitary or SpecialOrthogonal
    x : torch.Tensor, shape (n, sites, 3, 3)
        One start for each chain.

    Returns
    -------
    points : torch.Tensor, shape (sweeps - sweeps // 2, n, sites, 3, 3)
    accepted : float
        Share of accepted trajectories.
    """

    def slopes(x):
        x = x.detach().requires_grad_()
        log = log_density(x)
        (slope,) = torch.autograd.grad(log.sum(), x)
        return log.detach(), group.coordinates(x.detach(), slope)

    kept, shares, here = [], [], slopes(x)
    for sweep in range(sweeps):
        start = torch.randn(here[1].shape, generator=generator, dtype=here[1].dtype)
        y, a, there = x, start, here
        for _ in range(LEAPS):
            a = a + step / 2 * there[1]
            y = group.exp(y, group.from_frame(y, step * a))
            there = slopes(y)
            a = a + step / 2 * there[1]
        gain = there[0] - here[0] - (a.square() - start.square()).flatten(1).sum(1) / 2
        chance = gain.exp().clamp_max(1)
        taken = torch.rand(len(x), generator=generator, dtype=gain.dtype) < chance
        x = torch.where(taken.view(-1, 1, 1, 1), group.project(y), x)
        here = [
            torch.where(taken.view(-1, *[1] * (b.dim() - 1)), b, a) for a, b in zip(here, there, strict=True)
        ]
        if sweep < sweeps // 2:
            step *= math.exp(float(chance.mean()) - 0.8)
        else:
            kept.append(x)
            shares.append(float(taken.double().mean()))
    return torch.stack(kept), float(np.mean(shares))


def autocorrelation_time(values):
    """Integrated autocorrelation time of values (sweeps, chains), in sweeps, cut off at five times itself."""
    values = values - values.mean()
    total = 0.5
    for lag in range(1, len(values)):
        total += float((values[lag:] * values[:-lag]).mean() / values.square().mean())
        if lag >= 5 * total:
            break
    return 2 * total


# --- networks -----------------------------------------------------------------------------------------------


class LoopScore(nn.Module):
    """The gradient of an MLP of :func:`loops`, so that it has the symmetry of the lattice; the paper's network has not."""

    def __init__(self, example, settings, *, seed=0):
        super().__init__()
        sizes = {"width": settings.width, "layers": settings.layers, "seed": seed}
        self.mlp = NoiseMLP(loops(example.unsqueeze(0)).shape[1], outputs=1, **sizes)

    def forward(self, x, sigma):
        """Scores of points (n, sites, 3, 3), for noise levels of shape (n,) or (n, sites)."""
        sigma = sigma[:, 0] if sigma.dim() > 1 else sigma
        return torch.func.grad(lambda at: self.mlp(loops(at), sigma).sum())(x)


def loops(x):
    """Traces that U_x -> g(x_1) U_x g(x_1 + 1)^† leaves as they are."""
    side = math.isqrt(x.shape[1])
    x = x.unflatten(1, (side, side))
    first, second = torch.triu_indices(side, side, 1)
    left = product(adjoint(x[:, :, first]), x[:, :, second]).unsqueeze(3)
    x = x.roll(-1, 1)
    right = product(x[:, :, first], adjoint(x[:, :, second])).unsqueeze(2)
    loops = (trace(left), trace(right), trace(product(left, right)), trace(product(left, adjoint(right))))
    return torch.cat([torch.view_as_real(each).flatten(1) for each in loops], 1)


# --- experiments on SU(3) -----------------------------------------------------------------------------------


def conjugated(x, generator):
    """Points turned by U -> V U V^† with a random V each, which leaves both densities as they are."""
    turns = GROUP.random(len(x), 1, 3, 3, generator=generator, dtype=x.dtype, device=x.device)
    return product(turns, x, adjoint(turns))


def log_densities(network, x, **levels):
    """Log densities of points (n, sites, 3, 3) under the probability flow, relative to Haar measure."""
    space, flat = Product(*[(GROUP, (3, 3))] * x.shape[1]), torch.view_as_real(x).flatten(1)

    def score(flat, sigma):
        at = torch.view_as_complex(flat.unflatten(1, (*x.shape[1:], 2)).contiguous())
        return torch.view_as_real(network(at, sigma)).flatten(1)

    parts = [riemannian.log_likelihood(score, one, space, **levels) for one in flat.split(512)]
    return torch.cat(parts) + space.log_volume_like(flat)


def weighed(name, values, beta, log_density=None):
    """A row: moments of the action, and what the weights of the first points say, if they have a log density."""
    row = {"row": name, "mean": float(values.mean()), "variance": float(values.var()), "ESS": math.nan}
    if log_density is None:
        return row | {"log Z": math.nan}
    weights = beta * values[: len(log_density)] - log_density
    log = float(weights.logsumexp(0)) - math.log(len(weights))
    return row | {"ESS": float(effective_sample_size(weights)), "log Z": log}


def compared(config, action, sites, networks, seed, device, work):
    """Rows of Monte Carlo, of Haar measure and of networks by name; what else is known; and points of each flow."""
    beta, one, generator = config.beta, config.group, torch.Generator().manual_seed(seed)
    levels = {"sigma_min": one.sigma_min, "sigma_max": one.sigma_max, "steps": config.group_steps}
    haar = GROUP.random(config.chains, sites, 3, 3, generator=generator, dtype=torch.complex128)
    chains, accepted = hmc(lambda x: beta * action(x), GROUP, haar, sweeps=config.sweeps, generator=generator)
    values, held = torch.stack([action(x) for x in chains]), config.chains // 8
    points, tested = chains[:, held:].flatten(0, 1).to(torch.complex64), chains[-1, :held][: config.weighed]
    rows = [weighed("HMC", values, beta), weighed("Haar", action(haar), beta, torch.zeros(len(haar)))]
    found = {
        "acceptance": accepted, "autocorrelation": autocorrelation_time(values), "HMC values": values[-1].numpy(),
        "HMC error": float(values.mean(0).std()) / config.chains**0.5,
    }  # fmt: skip
    denoising, drawn = scores.denoising(HeatKernel(GROUP), one), {}

    def loss(network, batch, generator):
        return denoising(network, (conjugated(*batch, generator),), generator)

    for name, make in networks.items():
        network, options = (
            make(points[0], one, seed=seed),
            {"seed": seed, "device": device, "work": work / name},
        )
        network = train(network, loss, (points,), config.group_training, **options).network.cpu()
        x = riemannian.sample(network, GROUP, haar.shape, start=haar.to(points.dtype), **levels)
        drawn[name], values = x, action(x.to(haar.dtype))
        rows.append(weighed(name, values, beta, log_densities(network, x[: config.weighed], **levels)))
        gaps = beta * action(tested) - log_densities(network, tested.to(points.dtype), **levels)
        found |= {
            f"{name} KL + log Z": float(gaps.mean()),
            f"{name} KL error": float(gaps.std()) / len(gaps) ** 0.5,
        }
        found[f"{name} values"] = values.numpy()
    return rows, found, drawn


@experiment(seeds="group_seeds")
def site(config, *, seed, device, work):
    """SRD-10: a density of one matrix."""
    rows, found, drawn = compared(config, site_action, 1, {"MLP": scores.ScoreMLP}, seed, device, work)
    x, log_weight = torus()
    target = (
        (config.beta * site_action(x) + log_weight).softmax(0).reshape(BINS, GRID // BINS, BINS, GRID // BINS)
    )
    angles = (
        torch.linalg.eigvals(drawn["MLP"][:, 0]).angle() + math.pi / GRID
    )  # boxes have grid points inside
    pairs = torch.stack([angles[:, [i, j]] for i in range(3) for j in range(3) if i != j], 1).flatten(0, 1)
    counts = np.histogram2d(*pairs.remainder(2 * math.pi).T.numpy(), BINS, [(0, 2 * math.pi)] * 2)[0]
    maps = {"target map": target.sum((1, 3)).numpy(), "MLP map": counts / counts.sum()}
    return columns([exact(site_log_partition, config.beta), *rows]) | found | maps


@experiment(seeds="group_seeds")
def lattice(config, *, seed, device, work):
    """SRD-10: the lattice, by a network with its symmetry and by one without."""
    networks, sites = {"loops": LoopScore, "MLP": scores.ScoreMLP}, config.lattice**2
    rows, found, _ = compared(config, plaquettes, sites, networks, seed, device, work)
    rows = [exact(lattice_log_partition, config.beta)] * (config.lattice == 2) + rows
    return columns(rows) | found


# --- outliers -----------------------------------------------------------------------------------------------


def contrastive(z, labels):
    """The supervised contrastive loss of normalized embeddings (n, d): pull those of one class together."""
    alike = (z @ z.mT / TEMPERATURE).fill_diagonal_(-1e9)
    same = (labels[:, None] == labels).fill_diagonal_(False)
    each = (alike.log_softmax(1) * same).sum(1) / same.sum(1).clamp_min(1)
    return -each[same.any(1)].mean()


def encoder(config, images, labels, *, seed, device, work):
    """A convolutional network trained with :func:`contrastive`, as a function from images to points of the sphere."""
    network, batch = (
        FeatureClassifier(images.shape[1], classes=config.embedding, seed=seed),
        min(256, len(images)),
    )

    def loss(network, batch, generator):
        x, chances = batch[0], torch.rand(len(batch[0]), generator=generator, device=generator.device)
        x = flipped(x, chances) if config.outliers == "cifar10" else x
        return contrastive(normalize(network(x), dim=1), batch[1])

    steps = -(-config.encoder_epochs * len(images) // batch)
    settings = Training(
        steps=steps, batch=batch, learning_rate=4e-3, schedule="cosine", warmup=min(50, steps - 1)
    )
    network = train(
        network, loss, (images, labels), settings, seed=seed, device=device, work=work
    ).network.cpu()

    @torch.no_grad()
    def embed(images):
        return torch.cat([normalize(network(one), dim=1) for one in images.split(500)])

    return embed


def phase_randomized(images, generator):
    """Images with the amplitudes of the given ones and the phases of noise."""
    mean, noise = images.mean((-2, -1), keepdim=True), torch.rand(images.shape, generator=generator)
    spectrum = torch.fft.rfft2(images - mean).abs() * torch.sgn(torch.fft.rfft2(noise - 0.5))
    return (torch.fft.irfft2(spectrum, images.shape[-2:]) + mean).clamp(0, 1)


def detectors(train, labels):
    """Functions of points (n, d), by name, that are large where training points are."""
    means = torch.stack([train[labels == k].mean(0) for k in range(KNOWN)])
    rest = (train - means[labels]).double()
    inverse, k = torch.linalg.pinv(rest.mT @ rest / len(rest)), min(NEIGHBOR, len(train))

    def mahalanobis(z):
        gaps = (z[:, None] - means).double()
        return -torch.einsum("nki,ij,nkj->nk", gaps, inverse, gaps).amin(1)

    return {
        "k-th neighbor": lambda z: torch.cat([-torch.cdist(z, train).kthvalue(k, 1)[0] for z in z.split(200)]),
        "class mean": lambda z: -torch.cdist(z, means).amin(1), "Mahalanobis": mahalanobis,
    }  # fmt: skip


@experiment(seeds="outlier_seeds")
def outliers(config, *, seed, device, work):
    """SRD-9: which images are outliers, by the likelihood of their embedding and by distances."""
    generator, stored = (
        torch.Generator().manual_seed(seed),
        image_set(config.outliers, SIZES[config.outliers]),
    )
    kept, inside = stored.y_train < KNOWN, stored.y_test < KNOWN
    images, labels, one, manifold = (
        stored.x_train[kept],
        stored.y_train[kept],
        config.embedding_network,
        Sphere(),
    )
    embed = encoder(config, images, labels, seed=seed, device=device, work=work / "encoder")
    points, loss = embed(images), scores.denoising(HeatKernel(manifold), one)
    options = {"seed": seed, "device": device, "work": work / "score"}
    network = scores.trained(points, loss, one, config.embedding_training, **options).network.cpu()
    count = min(config.scored, int(inside.sum()), int((~inside).sum()))
    known, truth = stored.x_test[inside][:count], stored.y_test[inside][:count]
    sets = {
        "known classes": known, "new classes": stored.x_test[~inside][:count],
        "noise": torch.rand(known.shape, generator=generator), "inverted": 1 - known,
        "blurred": avg_pool2d(avg_pool2d(known, 3, 1, 1), 3, 1, 1), "random phases": phase_randomized(known, generator),
    }  # fmt: skip
    signs = 2.0 * torch.randint(2, (count, config.embedding - 1), generator=generator) - 1
    flow = {"sigma_min": one.sigma_min, "sigma_max": one.sigma_max, "steps": config.flow_steps}
    likelihood = partial(riemannian.log_likelihood, network, manifold=manifold, **flow)
    methods = {"likelihood": partial(likelihood, noise=signs), **detectors(points, labels)}
    flat, some = images.flatten(1), torch.randperm(len(images), generator=generator)[:10_000]
    nearest = detectors(flat[some], labels[some])["k-th neighbor"]
    embedded = {name: embed(x) for name, x in sets.items()}
    found = {method: {name: score(z) for name, z in embedded.items()} for method, score in methods.items()}
    found["pixels, k-th neighbor"] = {name: nearest(x.flatten(1)) for name, x in sets.items()}
    right = []
    for x, y in ((points, embedded["known classes"]), (flat, known.flatten(1))):
        means = torch.stack([x[labels == k].mean(0) for k in range(KNOWN)])
        right.append(float((torch.cdist(y, means).argmin(1) == truth).double().mean()))
    return detected(found) | {
        "sets": np.array(list(sets)), "log likelihoods": torch.stack(list(found["likelihood"].values())).numpy(),
        "exact": likelihood(embedded["known classes"][:EXACT]).numpy(), "accuracy": right[0],
        "accuracy of pixels": right[1],
    }  # fmt: skip


def detected(found):
    """AUROC, and the share of outliers that pass where 95 % of the known classes do, by method and set."""
    from sklearn.metrics import roc_auc_score  # a second to import

    rows = []
    for method, (known, *others) in ((method, values.values()) for method, values in found.items()):
        for name, other in zip(list(found[method])[1:], others, strict=True):
            area = roc_auc_score([1] * len(known) + [0] * len(other), torch.cat([known, other]).numpy())
            passed = float((other >= known.quantile(0.05)).double().mean())
            rows.append({"method": method, "outliers": name, "AUROC": float(area), "FPR95": passed})
    return columns(rows)
