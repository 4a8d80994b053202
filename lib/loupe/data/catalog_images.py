"""Catalog entries: images."""

from loupe.data.records import DataFile, DataSet, PublicForm

_OMNIGLOT_RAW = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/057f034baf2ecb8530bc5710e5a23584d2a519cc/python"
)

IMAGES = (
    DataSet(
        name="mnist",
        title="MNIST handwritten digits, 28 x 28",
        kind="images",
        reader="images:mnist",
        files=(
            DataFile(
                "mnist/mnist.npz",
                "sha256:06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
                11_490_519,
            ),
        ),
        public=PublicForm(
            files=(
                DataFile(
                    "mnist/mnist_keras.npz",
                    "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                    urls=("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
                ),
            ),
            output="mnist/mnist_keras.npz",
        ),
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits, 1998",
        homepage="https://keras.io/api/datasets/mnist/",
        source_note="Our file was rebuilt from PNG copies; the IDX bytes made from its images have the "
        "canonical md5 "
        "sums. The public file holds the same arrays under the same names.",
        used_by=(
            "adversarial_decomposition",
            "ddbm",
            "diffusion_dpo",
            "manifold_ode",
            "ph_dimension",
            "reflected_diffusion",
        ),
        in_box=True,
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10, 32 x 32 colour photographs of ten classes",
        kind="images",
        reader="images:cifar10",
        files=(
            DataFile(
                "cifar10/cifar10_jpeg.npz",
                "sha256:dfca34b7601706c01ae2fae44f5205d74ac1252f5a558699a6495c4c72eed499",
                18_416_610,
            ),
        ),
        public=PublicForm(
            files=(
                DataFile(
                    "cifar10/cifar-10-binary.tar.gz",
                    "md5:c32a1d4ab5d03f1284b67883e8d87530",
                    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                ),
            ),
            output="cifar10/cifar10_lossless.npz",
            converter="cifar10",
        ),
        licence="no explicit licence; research use with citation",
        citation="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        source_note="Our file is a JPEG copy of quality 75, in a shuffled order: classification hardly "
        "suffers, but bits "
        "per dimension and Frechet distances measured on it must not be compared with published ones. The "
        "public form "
        "(170 MB) is lossless, in the original order.",
        used_by=(
            "adversarial_decomposition",
            "ddbm",
            "diffusion_dpo",
            "ph_dimension",
            "reflected_diffusion",
            "riemannian_resnet",
        ),
    ),
    DataSet(
        name="digits",
        title="Handwritten digits of scikit-learn, 8 x 8",
        kind="images",
        reader="images:digits",
        licence="CC BY 4.0 (UCI)",
        citation="E. Alpaydin, C. Kaynak: Optical recognition of handwritten digits, UCI, 1998",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        source_note="Ships with scikit-learn: 1,797 images, values 0 to 16.",
        used_by=("adversarial_decomposition", "ddbm", "ph_dimension", "reflected_diffusion"),
        built_in=True,
    ),
    DataSet(
        name="omniglot_small",
        title="Omniglot, the two small background sets, 28 x 28",
        kind="images",
        reader="images:omniglot",
        files=(
            DataFile(
                "omniglot_small/omniglot28.npz",
                "sha256:f1548d6e05549a283cff09cf3286bb4a665ce350a8b67e81b7346652816103ad",
                448_536,
            ),
        ),
        public=PublicForm(
            files=tuple(
                DataFile(f"omniglot_small/{zip_name}", urls=(f"{_OMNIGLOT_RAW}/{zip_name}",))
                for zip_name in ("images_background_small1.zip", "images_background_small2.zip")
            ),
            output="omniglot_small/omniglot28_public.npz",
            converter="omniglot",
        ),
        licence="MIT, copyright (c) 2015 Brenden Lake",
        citation="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum: Human-level concept learning through "
        "probabilistic "
        "program induction, Science 350, 2015",
        homepage="https://github.com/brendenlake/omniglot",
        source_note="4,840 images, ink 255, resized from 105 x 105 by box averaging. Not the split of the "
        "papers, which "
        "use chardata.mat of github.com/yburda/iwae. No digest of the two archives is known; their address "
        "holds the "
        "commit.",
        used_by=("manifold_ode",),
        in_box=True,
    ),
)
