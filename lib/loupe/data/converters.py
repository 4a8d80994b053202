"""From the files that authors publish to the arrays that Loupe reads.

Each function takes the paths of the downloaded files, or of folders that hold them, and returns the arrays
of an ``.npz`` file, or the bytes of a text, or, for what is too large for memory, a function that writes the
files it is given. :func:`loupe.data.fetch` and :func:`loupe.data.adopt` call them by name.
"""

import io
import re
import tarfile
import zipfile
from pathlib import PurePosixPath

import numpy as np

from loupe.data.converters_text import lambada, lm1b, openwebtext
from loupe.data.images import CIFAR_CLASSES
from loupe.data.places import own_files
from loupe.data.text import normalise
from loupe.data.trajectories import SCENES

__all__ = [
    "basicmotions",
    "cifar10",
    "cora",
    "eth_ucy",
    "japanesevowels",
    "lambada",
    "lm1b",
    "motion_capture",
    "omniglot",
    "openwebtext",
    "plain27",
    "pubmed",
    "ts_series",
    "wikitext27",
]


def cifar10(paths):
    """CIFAR-10 from ``cifar-10-binary.tar.gz``: rows of label and 3,072 pixels, colour planes first."""
    (archive_path,) = paths
    rows = {}
    with tarfile.open(archive_path) as archive:
        for member in archive:
            if member.name.endswith(".bin"):
                rows[PurePosixPath(member.name).name] = np.frombuffer(
                    archive.extractfile(member).read(), np.uint8
                )
    batches = [rows[f"data_batch_{k}.bin"] for k in range(1, 6)]
    arrays = {"classes": np.array(CIFAR_CLASSES)}
    for part, flat in (("train", np.concatenate(batches)), ("test", rows["test_batch.bin"])):
        table = flat.reshape(-1, 3073)
        arrays[f"y_{part}"] = table[:, 0].copy()
        arrays[f"x_{part}"] = np.ascontiguousarray(table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return arrays


def _undirected(pairs):
    """Each undirected edge once, smaller index first, rows sorted: int32 ``(E, 2)``."""
    return np.unique(np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1), axis=0).astype(np.int32)


def _graph_arrays(labels, pairs, rows, columns, values, width):
    return {
        "edges": _undirected(pairs),
        "labels": np.asarray(labels, np.int64),
        "num_nodes": np.int64(len(labels)),
        "feat_row": np.asarray(rows, np.int32),
        "feat_col": np.asarray(columns, np.int32),
        "feat_val": np.asarray(values, np.float32),
        "feat_shape": np.array([len(labels), width], np.int64),
    }


def _tar_lines(path, *endings):
    """Lines of the members of a tar archive whose names end so."""
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive if member.isfile()}
        for ending in endings:
            (name,) = [name for name in members if PurePosixPath(name).name == ending]
            yield archive.extractfile(members[name]).read().decode("utf-8").splitlines()


def cora(paths):
    """Cora from ``cora.tgz`` of LINQS: ``cora.content`` (id, words, class) and ``cora.cites`` (two ids)."""
    (archive,) = paths
    content, cites = _tar_lines(archive, "cora.content", "cora.cites")
    table = [line.split() for line in content if line.strip()]
    node = {row[0]: k for k, row in enumerate(table)}
    classes = sorted({row[-1] for row in table})
    words = np.array([row[1:-1] for row in table]).astype(np.float32)
    rows, columns = np.nonzero(words)
    pairs = [[node[name] for name in line.split()] for line in cites if line.strip()]
    labels = [classes.index(row[-1]) for row in table]
    return _graph_arrays(labels, pairs, rows, columns, words[rows, columns], words.shape[1])


def pubmed(paths):
    """PubMed from ``Pubmed-Diabetes.tgz`` of LINQS: TF-IDF words by name, classes 1 to 3, citations by id."""
    (archive,) = paths
    papers, cites = _tar_lines(
        archive, "Pubmed-Diabetes.NODE.paper.tab", "Pubmed-Diabetes.DIRECTED.cites.tab"
    )
    # Second line: "cat=1,2,3:label", then one "numeric:w-word:0.0" for each word, then the summary.
    word = {}
    for field in papers[1].split("\t"):
        if field.startswith("numeric:"):
            word[field.split(":")[1]] = len(word)
    node, labels, triples = {}, [], []
    for line in papers[2:]:
        name, *fields = line.rstrip("\n").split("\t")
        k = node.setdefault(name, len(node))
        for key, _, value in (field.partition("=") for field in fields):
            if key == "label":
                labels.append(int(value) - 1)
            elif key in word:
                triples.append((k, word[key], float(value)))
    # From the third line on: number, "paper:id", "|", "paper:id".
    pairs = [
        [node[field.removeprefix("paper:")] for field in line.split("\t") if field.startswith("paper:")]
        for line in cites[2:]
        if line.strip()
    ]
    rows, columns, values = zip(*triples, strict=True)
    return _graph_arrays(labels, pairs, rows, columns, values, len(word))


def eth_ucy(paths):
    """ETH-UCY from texts ``SCENE_train.txt`` and ``SCENE_val.txt``: rows of frame, person, x, y in metres."""
    found = {}
    for path in own_files(paths):
        # The authors' folders repeat a scene, with the same rows, for each scene that is left out.
        if path.suffix == ".txt" and found.setdefault(path.name, path).read_bytes() != path.read_bytes():
            raise ValueError(f"{path.name} is there twice, with different rows")
    arrays = {}
    for scene in SCENES:
        train, val = (
            np.loadtxt(found[f"{scene}_{part}.txt"], ndmin=2, dtype=np.float64)[:, :4]
            for part in ("train", "val")
        )
        arrays[scene] = np.concatenate([train, val]).astype(np.float32)
        arrays[f"{scene}__val_start"] = np.float64(val[:, 0].min())
    return arrays


def omniglot(paths):
    """Small Omniglot from its two zip archives of one-bit PNG files: inverted, box-averaged to 28 x 28."""
    from PIL import Image

    pictures = {}
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                parts = PurePosixPath(name).parts
                if not name.endswith(".png") or "__MACOSX" in parts:
                    continue
                alphabet, character, file = parts[-3:]
                # Greek and Latin stand in both archives, with the same pictures.
                drawer = int(file.removesuffix(".png").split("_")[1])
                with Image.open(io.BytesIO(archive.read(name)), formats=("PNG",)) as picture:
                    ink = 255 - np.asarray(picture.convert("L"))
                small = Image.fromarray(ink).resize((28, 28), Image.Resampling.BOX)
                pictures[alphabet, character, drawer] = np.asarray(small)
    keys = sorted(pictures)
    alphabets = sorted({key[0] for key in keys})
    characters = sorted({key[:2] for key in keys})
    return {
        "images": np.stack([pictures[key] for key in keys]),
        "alphabet": np.array([alphabets.index(key[0]) for key in keys], np.uint8),
        "character": np.array([characters.index(key[:2]) for key in keys], np.uint16),
        "drawer": np.array([key[2] for key in keys], np.uint8),
        "alphabet_names": np.array(alphabets),
    }


def ts_series(text):
    """Series of a ``.ts`` file of the time-series archive.

    Parameters
    ----------
    text : str
        The file: comments ``#``, headers ``@``, then one line for each series: channels separated by ``:``,
        values by ``,``, the class last.

    Returns
    -------
    values : numpy.ndarray
        float32 ``(sum of lengths, channels)``, all series one after another.
    offsets : numpy.ndarray
        int64 ``(n + 1,)``, where each series starts.
    labels : list of str
        The class of each series.
    classes : list of str
        All classes, in the order of the header.
    """
    header, _, body = text.partition("@data")
    (classes,) = [line.split()[2:] for line in header.splitlines() if line.lower().startswith("@classlabel")]
    blocks, labels = [], []
    for line in body.split("\n"):
        if line.strip():
            *channels, label = line.strip().split(":")
            blocks.append(np.array([channel.split(",") for channel in channels]).astype(np.float32).T)
            labels.append(label)
    offsets = np.concatenate([[0], np.cumsum([len(block) for block in blocks])]).astype(np.int64)
    return np.concatenate(blocks), offsets, labels, classes


def _archive_series(paths, name):
    (wheel,) = paths
    arrays = {}
    with zipfile.ZipFile(wheel) as archive:
        for part in ("train", "test"):
            member = f"sktime/datasets/data/{name}/{name}_{part.upper()}.ts"
            values, offsets, labels, classes = ts_series(archive.read(member).decode("utf-8"))
            arrays[f"{part}_values"], arrays[f"{part}_offsets"] = values, offsets
            arrays[f"{part}_labels"] = np.array([classes.index(label) for label in labels], np.int64)
    arrays["class_names"] = np.array(classes)
    return arrays


def japanesevowels(paths):
    """JapaneseVowels from the ``.ts`` files in the wheel of sktime."""
    return _archive_series(paths, "JapaneseVowels")


def basicmotions(paths):
    """BasicMotions from the ``.ts`` files in the wheel of sktime."""
    return _archive_series(paths, "BasicMotions")


def plain27(paths):
    """The first 600,000 characters of a plain text in 27 symbols."""
    (path,) = paths
    return _start(normalise(path.read_bytes().decode("utf-8")))


def wikitext27(paths):
    """The first 600,000 characters of WikiText in 27 symbols, its word-level marks undone."""
    (path,) = paths
    # The token N goes too: the recipe was shared with the Penn Treebank, where N stands for a number.
    text = path.read_bytes().decode("utf-8").replace("<unk>", "").replace(" N ", " ")
    return _start(normalise(text.replace(" @-@ ", " ").replace(" @,@ ", "").replace(" @.@ ", " ")))


def _start(text, characters=600_000):
    """The first `characters` of a text, without the word that the cut splits."""
    if len(text) > characters:
        text = text[:characters].rpartition(" ")[0]
    return text.encode("ascii")


# --- motion capture: skeletons (asf) and recordings (amc) ----------------------------------------------------


def motion_capture(paths):
    """Trials from one ``.asf`` file and several ``SUBJECT_TRIAL.amc`` files, as the arrays of a set.

    Raises
    ------
    ValueError
        If there are not one skeleton and at least one trial, or a trial is of another subject or there twice.
    """
    files = own_files(paths)
    skeletons = [file for file in files if file.suffix == ".asf"]
    trials = [file for file in files if file.suffix == ".amc"]
    if len(skeletons) != 1 or not trials:
        raise ValueError(
            f"one .asf file and its .amc files are needed, got {len(skeletons)} and {len(trials)}"
        )
    (skeleton,) = skeletons
    foreign = [
        file.name for file in trials if not re.fullmatch(rf"{re.escape(skeleton.stem)}_\d+", file.stem)
    ]
    if foreign:
        raise ValueError(f"{foreign[0]} is no trial of the subject of {skeleton.name}")
    if twice := {file.stem for file in trials if [one.stem for one in trials].count(file.stem) > 1}:
        raise ValueError(f"{min(twice)}.amc is there twice")
    bones = read_skeleton(skeleton.read_text(encoding="latin-1"))
    joints = list(bones)
    arrays = {
        "joint_names": np.array(joints),
        "edges": np.array(
            [[joints.index(joint), joints.index(bones[joint][0])] for joint in joints[1:]], np.int16
        ),
    }
    for file in trials:
        frames = read_frames(file.read_text(encoding="latin-1"))
        arrays[f"trial_{file.stem.split('_')[1]}"] = joint_positions(bones, frames).astype(np.float32)
    return arrays


def rotation(angles):
    """Rotation ``R_z R_y R_x`` of angles in degrees: ``(..., 3)`` gives ``(..., 3, 3)``."""
    x, y, z = np.moveaxis(np.deg2rad(np.asarray(angles, np.float64)), -1, 0)
    one, nil = np.ones_like(x), np.zeros_like(x)

    def matrix(*entries):
        return np.stack(entries, -1).reshape(*x.shape, 3, 3)

    r_x = matrix(one, nil, nil, nil, np.cos(x), -np.sin(x), nil, np.sin(x), np.cos(x))
    r_y = matrix(np.cos(y), nil, np.sin(y), nil, one, nil, -np.sin(y), nil, np.cos(y))
    r_z = matrix(np.cos(z), -np.sin(z), nil, np.sin(z), np.cos(z), nil, nil, nil, one)
    return r_z @ r_y @ r_x


def read_skeleton(text):
    """Bones of an ``.asf`` file.

    Parameters
    ----------
    text : str
        The file.

    Returns
    -------
    dict of str to tuple
        ``{joint: (parent, offset, axis, dofs)}``, depth first from ``"root"``: offset ``(3,)``, length times
        direction in the files' units, axis ``(3,)`` in degrees, dofs such as ``("rx", "ry", "rz")``.
    """
    found = {"root": (None, np.zeros(3), np.zeros(3), ())}
    for block in re.findall(
        r"\bbegin\b(.*?)\bend\b", text.partition(":bonedata")[2].partition(":hierarchy")[0], re.S
    ):
        lines = {line.split()[0]: line.split()[1:] for line in block.splitlines() if line.strip()}
        offset = float(lines["length"][0]) * np.array(lines["direction"][:3], np.float64)
        found[lines["name"][0]] = (
            None,
            offset,
            np.array(lines["axis"][:3], np.float64),
            tuple(lines.get("dof", ())),
        )
    children = {}
    for line in text.partition(":hierarchy")[2].splitlines():
        parent, *names = line.split() or ("",)
        if names:
            children[parent] = names
    ordered = {}

    def visit(joint, parent):
        ordered[joint] = (parent, *found[joint][1:])
        for child in children.get(joint, ()):
            visit(child, joint)

    visit("root", None)
    return ordered


def read_frames(text):
    """Frames of an ``.amc`` file: a list of ``{joint: numbers}``; the root has position and angles."""
    frames = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 1 and words[0].isdigit():
            frames.append({})
        elif frames and len(words) > 1:
            frames[-1][words[0]] = [float(word) for word in words[1:]]
    return frames


def joint_positions(bones, frames):
    """Positions by forward kinematics.

    For bone b with axis matrix C and frame rotation M: ``G = G_parent C M C^T`` and ``p = p_parent + G
    offset``.

    Parameters
    ----------
    bones : dict
        From :func:`read_skeleton`.
    frames : list of dict
        From :func:`read_frames`.

    Returns
    -------
    numpy.ndarray
        float64 ``(frames, joints, 3)``, in the files' units.
    """
    root = np.array([frame["root"] for frame in frames], np.float64)
    turned, placed = {"root": rotation(root[:, 3:])}, {"root": root[:, :3]}
    for joint, (parent, offset, axis, dofs) in bones.items():
        if parent is None:
            continue
        angles = np.zeros((len(frames), 3))
        for k, dof in enumerate(dofs):
            angles[:, "xyz".index(dof[1])] = [frame[joint][k] for frame in frames]
        c = rotation(axis)
        turned[joint] = turned[parent] @ c @ rotation(angles) @ c.T
        placed[joint] = placed[parent] + turned[joint] @ offset
    return np.stack([placed[joint] for joint in bones], axis=1)
