"""Catalog entries: graphs."""

from loupe.data.records import DataFile, DataSet, PublicForm

_OURS_ONLY = "Our file comes through LOUPE_DATA or LOUPE_DATA_URL."


def _graph(
    name,
    title,
    file,
    note,
    public=None,
    licence="public for research, no explicit licence",
    extra_citation="",
):
    """One graph of the hyperbolic-network chapters."""
    citation = "I. Chami et al.: Hyperbolic graph convolutional neural networks, 2019 (arXiv 1910.12933)"
    return DataSet(
        name,
        title,
        "graph",
        "graphs:graph",
        licence,
        citation + extra_citation,
        "https://github.com/HazyResearch/hgcn",
        note,
        ("frechet_mean", "riemannian_resnet"),
        (file,),
        public,
        in_box=True,
    )


GRAPHS = (
    _graph(
        "cora",
        "Cora citation graph",
        DataFile(
            "graphs/cora.npz",
            "sha256:b43ed35722f1ec2b01839042bdf5a1b4da700beae6a9838b7476c4fa1e6b77de",
            104_564,
        ),
        "Our file has the node order and the fixed split of Planetoid. The public form is the plain text "
        "of LINQS: same "
        "papers, citations and words, in another order, without that split.",
        PublicForm(
            (
                DataFile(
                    "graphs/cora.tgz",
                    "md5:2fc040bee8ce3d920e4204effd1e9214",
                    urls=("https://linqs-data.soe.ucsc.edu/public/lbc/cora.tgz",),
                ),
            ),
            "graphs/cora_linqs.npz",
            "cora",
        ),
        extra_citation="; P. Sen et al.: Collective classification in network data, AI Magazine 29, 2008",
    ),
    _graph(
        "disease_lp",
        "Disease tree for link prediction (simulated)",
        DataFile(
            "graphs/disease_lp.npz",
            "sha256:818a6a2fb268c0a02eb71f85cb4db06a7031ad679a64b146ab1347fa52672ec0",
            229_725,
        ),
        "Simulated by the authors of HGCN, whose repository holds it as text (data/disease_lp). Node 0 is "
        "the root and "
        f"the smaller index of an edge is the parent. {_OURS_ONLY}",
    ),
    _graph(
        "airport",
        "Airport graph with population labels",
        DataFile(
            "graphs/airport.npz",
            "sha256:2adb7c7274921749010a5e6b7a7459f6e2941b2ccd02ed5e816cb615ed92a04a",
            102_659,
        ),
        "Built by the authors of HGCN from OpenFlights and population data and published as a pickle, "
        "which Loupe does "
        "not open; OpenFlights alone lacks the labels. Column 4 of the features is what the labels bin: "
        "for node "
        f"classification use columns 0 to 3. {_OURS_ONLY}",
        licence="OpenFlights: ODbL; the derived file is public for research, no explicit licence",
    ),
    _graph(
        "disease_nc_structure",
        "Disease tree for node classification, without its features (simulated)",
        DataFile(
            "graphs/disease_nc_structure.npz",
            "sha256:efca8513d8beab5f552ddc7299fab4b22c27ce9f2c3c83c948be0efd64a547b0",
            3_125,
        ),
        "Simulated by the authors of HGCN (data/disease_nc in their repository); the 1,000 feature columns "
        "could not be "
        f"obtained. {_OURS_ONLY}",
    ),
    _graph(
        "pubmed_partial",
        "PubMed citation graph, features of 1,060 nodes only",
        DataFile(
            "graphs/pubmed_partial.npz",
            "sha256:9dfa95ea986514a2628b16c1e7c4e63519b984bcf2dc0cb7e7414bbdd2094fe9",
            407_150,
        ),
        "Our file has the node order and the fixed split of Planetoid, and the features of its 60 training "
        "and 1,000 "
        "test nodes. The public form is the plain text of LINQS: all features, in another order, without "
        "that split.",
        PublicForm(
            (
                DataFile(
                    "graphs/Pubmed-Diabetes.tgz",
                    "md5:9fa24b917990c47e264a94079b9599fe",
                    urls=("https://linqs-data.soe.ucsc.edu/public/Pubmed-Diabetes.tgz",),
                ),
            ),
            "graphs/pubmed_linqs.npz",
            "pubmed",
        ),
        extra_citation="; G. Namata et al.: Query-driven active surveying for collective classification, "
        "2012",
    ),
)
