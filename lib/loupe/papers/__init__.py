"""The table of papers: fast to import, without any numerical library.

A written chapter has a room ``loupe.papers.SLUG`` next to this table; the others are planned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from loupe.errors import LoupeError, shown

THEMES = ("robustness", "geometry", "flows", "topology", "diffusion", "dynamics")


@dataclass(frozen=True)
class Paper:
    """A paper of the book.

    ``question`` is the chapter's title: the paper's question in plain words. ``code`` is the
    official repository (``owner/name``), or ``None`` where none is known. ``short`` is the common name of its method,
    ``about`` one sentence for search engines, ``keywords`` other search terms.
    """

    slug: str
    theme: str
    question: str
    title: str
    authors: str
    year: int
    venue: str
    arxiv: str
    code: str | None
    short: str = ""
    about: str = ""
    keywords: str = ""

    @property
    def planned(self) -> bool:
        """Whether the chapter is still to be written (it has no room yet)."""
        return find_spec(f"loupe.papers.{self.slug}") is None


PAPERS = {
    paper.slug: paper
    for paper in (
        Paper("adversarial_decomposition", "robustness", "What are adversarial examples made of?",
              "Adversarial Example Decomposition",
              "Horace He, Aaron Lou, Qingxuan Jiang, Isay Katsman, Serge Belongie, Ser-Nam Lim",
              2018, "ICML 2019 workshop", "1812.01198", None, short="Adversarial decomposition",
              about="What adversarial examples share between models and what is their own: decomposition "
                    "into architecture, data and noise components.",
              keywords="transferability, adversarial attack, iterated FGSM"),
        Paper("frechet_mean", "geometry", "Can a network learn through an average on a curved space?",
              "Differentiating through the Fréchet Mean",
              "Aaron Lou, Isay Katsman, Qingxuan Jiang, Serge Belongie, Ser-Nam Lim, Christopher De Sa",
              2020, "ICML 2020", "2003.00335", "CUAI/Differentiable-Frechet-Mean", short="Fréchet mean",
              about="Differentiating through the Fréchet mean of hyperbolic space: hyperbolic batch "
                    "normalization and graph networks, tested claim by claim.",
              keywords="Frechet mean, Karcher mean, hyperbolic neural networks, Poincaré ball, implicit "
                       "differentiation"),
        Paper("riemannian_resnet", "geometry", "What is a residual connection where points cannot be added?",
              "Riemannian Residual Neural Networks",
              "Isay Katsman, Eric M. Chen, Sidhanth Holalkere, Anna Asch, Aaron Lou, Ser-Nam Lim, Christopher De Sa",
              2023, "NeurIPS 2023", "2310.10013", "CUAI/Riemannian-Residual-Neural-Networks", short="Riemannian ResNet",
              about="Residual networks whose layers are vector fields on a manifold, on hyperbolic space and "
                    "on positive definite matrices.",
              keywords="RResNet, SPD matrices, Busemann function"),
        Paper("manifold_ode", "flows", "How does a flow stay on a manifold?",
              "Neural Manifold Ordinary Differential Equations",
              "Aaron Lou, Derek Lim, Isay Katsman, Leo Huang, Qingxuan Jiang, Ser-Nam Lim, Christopher De Sa",
              2020, "NeurIPS 2020", "2006.10254", "CUAI/Neural-Manifold-Ordinary-Differential-Equations",
              short="Neural manifold ODEs",
              about="Continuous normalizing flows that stay on a manifold by solving the ODE in dynamic charts.",
              keywords="NMODE, CNF, continuous normalizing flow, hyperbolic VAE"),
        Paper("manifold_flows", "flows", "Can a density learn a symmetry exactly?",
              "Equivariant Manifold Flows",
              "Isay Katsman, Aaron Lou, Derek Lim, Qingxuan Jiang, Ser-Nam Lim, Christopher De Sa",
              2021, "NeurIPS 2021", "2107.08596", "CUAI/Equivariant-Manifold-Flows", short="Equivariant manifold flows",
              about="Normalizing flows on manifolds whose density keeps a symmetry exactly, on spheres and "
                    "on SU(n).",
              keywords="EMF, lattice gauge theory, SU(2), SU(3), conjugation invariance"),
        Paper("ph_dimension", "topology", "How rough is the path of training?",
              "Intrinsic Dimension, Persistent Homology and Generalization in Neural Networks",
              "Tolga Birdal, Aaron Lou, Leonidas Guibas, Umut Şimşekli",
              2021, "NeurIPS 2021", "2111.13171", "tolgabirdal/PHDimGeneralization", short="PH dimension",
              about="Persistent-homology dimension of training trajectories and the generalization gap, "
                    "measured again with controls.",
              keywords="PHdim, persistent homology dimension, generalization gap, heavy tails, topological "
                       "regularization"),
        Paper("reflected_diffusion", "diffusion", "How does diffusion stay inside the cube?",
              "Reflected Diffusion Models", "Aaron Lou, Stefano Ermon",
              2023, "ICML 2023", "2304.04740", "louaaron/Reflected-Diffusion", short="Reflected diffusion",
              about="Diffusion models that stay inside the cube by reflection: kernels, score matching and "
                    "guidance, tested claim by claim.",
              keywords="RDM, constrained diffusion, thresholding, reflected SDE, classifier-free guidance"),
        Paper("ddbm", "diffusion", "Can diffusion walk from one image to another?",
              "Denoising Diffusion Bridge Models", "Linqi Zhou, Aaron Lou, Samar Khanna, Stefano Ermon",
              2023, "ICLR 2024", "2309.16948", "alexzhou907/DDBM", short="DDBM",
              about="Denoising diffusion bridges: diffusion from one image to another instead of from noise.",
              keywords="diffusion bridge, image translation, Doob h-transform, DDBM"),
        Paper("riemannian_diffusion", "diffusion", "Does diffusion on manifolds scale?",
              "Scaling Riemannian Diffusion Models", "Aaron Lou, Minkai Xu, Adam Farris, Stefano Ermon",
              2023, "NeurIPS 2023", "2310.20030", "louaaron/Scaling-Riemannian-Diffusion", short="Riemannian diffusion",
              about="Diffusion on symmetric spaces with exact heat kernels, at scale.",
              keywords="RSGM, heat kernel, score matching on manifolds"),
        Paper("sedd", "diffusion", "Can diffusion write text?",
              "Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution",
              "Aaron Lou, Chenlin Meng, Stefano Ermon",
              2023, "ICML 2024", "2310.16834", "louaaron/Score-Entropy-Discrete-Diffusion", short="SEDD",
              about="Score entropy discrete diffusion for text: the theory checked exactly, and small "
                    "language models trained side by side.",
              keywords="score entropy, ELBO, NFE, number of function evaluations, masked diffusion, MDLM, D3PM, "
                       "discrete diffusion, diffusion language model"),
        Paper("diffusion_dpo", "diffusion", "How does an image model learn what people prefer?",
              "Diffusion Model Alignment Using Direct Preference Optimization",
              "Bram Wallace, Meihua Dang, Rafael Rafailov, Linqi Zhou, Aaron Lou, Senthil Purushwalkam, "
              "Stefano Ermon, Caiming Xiong, Shafiq Joty, Nikhil Naik",
              2023, "CVPR 2024", "2311.12908", "SalesforceAIResearch/DiffusionDPO", short="Diffusion-DPO",
              about="Direct preference optimization for image diffusion models, in a world where the optimum "
                    "is known.",
              keywords="DPO, RLHF, preference optimization, reward model"),
        Paper("egno", "dynamics", "Can a network predict a whole motion at once, whichever way it faces?",
              "Equivariant Graph Neural Operator for Modeling 3D Dynamics",
              "Minkai Xu, Jiaqi Han, Aaron Lou, Jean Kossaifi, Arvind Ramanathan, Kamyar Azizzadenesheli, "
              "Jure Leskovec, Stefano Ermon, Anima Anandkumar",
              2024, "ICML 2024", "2401.11037", "MinkaiXu/EGNO", short="EGNO",
              about="Equivariant graph neural operators that predict a whole trajectory at once, against "
                    "EGNN and the trivial rows.",
              keywords="EGNN, SE(3)-equivariance, Fourier neural operator, trajectory prediction"),
        Paper("geotdm", "dynamics", "What would a body in motion do next?",
              "Geometric Trajectory Diffusion Models",
              "Jiaqi Han, Minkai Xu, Aaron Lou, Haotian Ye, Stefano Ermon",
              2024, "NeurIPS 2024", "2410.13027", "hanjq17/GeoTDM", short="GeoTDM",
              about="Diffusion models of whole trajectories that respect rotations and translations.",
              keywords="geometric trajectory diffusion, equivariant temporal attention, ADE, FDE"),
    )
}  # fmt: skip


def find_paper(slug: str) -> Paper:
    """The paper with that slug; an error with the nearest names if there is none."""
    if slug in PAPERS:
        return PAPERS[slug]
    from difflib import get_close_matches

    near = get_close_matches(slug, PAPERS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise LoupeError(f"no paper is called {shown(slug)}: {hint}`loupe list` shows all of them.")


def load_room(slug: str):
    """Import and return the room ``loupe.papers.SLUG`` of a written chapter."""
    if find_paper(slug).planned:
        raise LoupeError(
            f"the chapter {slug!r} is planned and not written yet: `loupe list` shows those that are."
        )
    return import_module(f"loupe.papers.{slug}")


def open_chapter(
    slug: str,
    *,
    preset: str = "smoke",
    seed: int | None = None,
    recompute: bool = False,
    overrides: Mapping[str, Any] | None = None,
):
    """Open a chapter for a notebook.

    Parameters
    ----------
    slug
        The paper, as in ``loupe list``.
    preset
        ``smoke``, ``cpu``, ``gpu`` or ``paper``.
    seed
        One seed instead of all that the preset lists.
    recompute
        Compute in this process, instead of reading stored results.
    overrides
        Settings that replace those of the preset, checked against the chapter's ``Config``.

    Returns
    -------
    loupe.experiment.chapter.Chapter

    Raises
    ------
    LoupeError
        If a name is unknown or a value is invalid.
    """
    from loupe.experiment.chapter import opened

    return opened(load_room(slug), preset, seed, recompute, overrides)
