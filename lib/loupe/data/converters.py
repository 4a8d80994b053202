"""From the files that authors publish to the arrays, texts and blocks of token ids that Loupe reads.

Each function takes the paths of the downloaded files, or of folders that hold them, and returns the arrays of an
``.npz`` file, the bytes of a text, or, for data too large for memory, a function that writes the given files.
:func:`loupe.data.fetch` and :func:`loupe.data.adopt` call them by name; those of graphs and motion capture are next to
their readers.
"""

import gzip
import io
import json
import lzma
import re
import tarfile
import zipfile
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath

import numpy as np

from loupe.data import token_blocks
from loupe.data.graphs import cora, pubmed  # noqa: F401 (called by name)
from loupe.data.images import CIFAR_CLASSES
from loupe.data.places import own_files
from loupe.data.text import normalize
from loupe.data.token_blocks import BlockWriter
from loupe.data.trajectories import SCENES, motion_capture  # noqa: F401

HELD_OUT = 100  # every document of OpenWebText with this number is for validation


def cifar10(paths):
    """CIFAR-10 from ``cifar-10-binary.tar.gz``: rows of label and 3,072 pixels, color planes first."""
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


def eth_ucy(paths):
    """ETH-UCY from texts ``SCENE_train.txt`` and ``SCENE_val.txt``: rows of frame, person, x, y in meters."""
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
                # Greek and Latin are in both archives, with the same images.
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
    return _start(normalize(path.read_bytes().decode("utf-8")))


def wikitext27(paths):
    """The first 600,000 characters of WikiText in 27 symbols, with word-level markup removed."""
    (path,) = paths
    # Also drop the token N: the recipe is shared with the Penn Treebank, where N stands for a number.
    text = path.read_bytes().decode("utf-8").replace("<unk>", "").replace(" N ", " ")
    return _start(normalize(text.replace(" @-@ ", " ").replace(" @,@ ", "").replace(" @.@ ", " ")))


def _start(text, characters=600_000):
    """The first `characters` of a text, without the word that the cut splits."""
    if len(text) > characters:
        text = text[:characters].rpartition(" ")[0]
    return text.encode("ascii")


# --- corpora to blocks of token ids -------------------------------------------------------------------------

# The vocabulary is among the files that each converter gets. The tokenizers are those of the package ``tokenizers``,
# built here from their published parts.


def lm1b(paths):
    """One Billion Words from its archive and BERT's ``vocab.txt``: the parts train and test."""
    files = own_files(paths)
    tokenizer = word_pieces(_named(files, "vocab.txt"))
    archive_path = _named(files, ".tar.gz", ".tar", ".tgz")

    def write(train, test):
        with (
            _writer(train, token_blocks.BERT, 128) as training,
            _writer(test, token_blocks.BERT, 128) as heldout,
            _opened(archive_path) as archive,
        ):
            for member in archive:
                place = PurePosixPath(member.name)
                part = {"training": training, "heldout": heldout}.get(place.parent.name.partition("-")[0])
                if part and member.isfile() and place.name.startswith("news.en"):
                    for ids in _encode(tokenizer, _lines(archive.extractfile(member))):
                        part.add(ids)

    return write


def openwebtext(paths):
    """OpenWebText from its archives and GPT-2's ``encoder.json`` and ``vocab.bpe``: train and valid.

    The archives are those of the hub (``urlsf_subsetNN.tar``), the older ``openwebtext.tar.xz``, or the
    ``urlsf_subsetNN-K_data.xz`` inside either; they are read in the order of their names.
    """
    files = own_files(paths)
    tokenizer = byte_pairs(_named(files, "encoder.json"), _named(files, "vocab.bpe"))
    archives = sorted(
        (file for file in files if file.name.endswith((".tar", ".xz"))), key=lambda file: file.name
    )
    if not archives:
        raise LookupError("there is no .tar or .xz archive among them")

    def write(train, valid):
        with (
            _writer(train, token_blocks.GPT2, 1024) as rest,
            _writer(valid, token_blocks.GPT2, 1024) as held_out,
        ):
            for k, ids in enumerate(_encode(tokenizer, _web_pages(archives))):
                (held_out if k % HELD_OUT == HELD_OUT - 1 else rest).add(ids)

    return write


def lambada(paths):
    """LAMBADA from ``lambada_test.jsonl`` and GPT-2's ``encoder.json`` and ``vocab.bpe``: the part test.

    Each passage begins with a newline, and curly double quotes become straight ones, as in published perplexities.
    """
    files = own_files(paths)
    tokenizer = byte_pairs(_named(files, "encoder.json"), _named(files, "vocab.bpe"))
    with _named(files, ".jsonl").open(encoding="utf-8") as stream:
        passages = [json.loads(line)["text"] for line in stream if line.strip()]
    straight = str.maketrans("“”", '""')

    def write(test):
        with _writer(test, token_blocks.GPT2, 1024) as writer:
            for ids in _encode(
                tokenizer, ("\n" + passage.translate(straight).strip() for passage in passages)
            ):
                writer.add(ids)

    return write


def word_pieces(vocabulary_file):
    """BERT's tokenizer for text in lower case, from its ``vocab.txt``.

    Parameters
    ----------
    vocabulary_file : str or pathlib.Path
        One piece a line.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    ValueError
        If the file is not the vocabulary of bert-base-uncased.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(_model(models.WordPiece.from_file, str(vocabulary_file), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _checked(tokenizer, token_blocks.BERT, vocabulary_file)


def byte_pairs(vocabulary_file, merges_file):
    """GPT-2's tokenizer from its ``encoder.json`` and ``vocab.bpe``.

    Parameters
    ----------
    vocabulary_file, merges_file : str or pathlib.Path
        The id of each piece, and the pairs in merge order.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    ValueError
        If the files are not the vocabulary of GPT-2.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(_model(models.BPE.from_file, str(vocabulary_file), str(merges_file)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _checked(tokenizer, token_blocks.GPT2, vocabulary_file)


def _model(read, *files, **options):
    try:
        return read(*files, **options)
    except Exception as error:  # the package raises the bare class
        raise ValueError(f"{', '.join(files)}: {error}") from error


def _checked(tokenizer, vocabulary, file):
    size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(vocabulary.end_piece)
    if (size, end) != (vocabulary.size, vocabulary.end):
        raise ValueError(
            f"{file} has {size} pieces, {vocabulary.end_piece} being number {end}; {vocabulary.name} has "
            f"{vocabulary.size} and number {vocabulary.end}"
        )
    return tokenizer


def _encode(tokenizer, texts, at_once=1024):
    """Ids of each text, encoded in large batches so that the tokenizer uses all cores."""
    texts = iter(texts)
    while group := list(islice(texts, at_once)):
        for found in tokenizer.encode_batch_fast(group, add_special_tokens=False):
            yield found.ids


def _writer(path, vocabulary, length):
    return BlockWriter(path, length=length, end=vocabulary.end, vocabulary=vocabulary.size)


def _lines(stream):
    """Lines of a text that are not empty; only a newline ends a line."""
    for line in stream:
        if line := line.decode("utf-8").strip():
            yield line


@contextmanager
def _opened(path):
    """A tar archive, read once from start to end, without unpacking to disk.

    It is decompressed here because tarfile accepts a truncated compressed stream as complete.
    """
    decompress = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with (
        decompress(path, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive,
    ):
        yield archive


def _web_pages(archives):
    """Texts of all archives, in their order there."""
    for path in archives:
        with _opened(path) as members:
            yield from _texts(members)


def _texts(members):
    """Texts in an open archive, and in the small archives inside it."""
    for member in members:
        if not member.isfile():
            continue
        if member.name.endswith(".txt"):
            text = members.extractfile(member).read().decode("utf-8", "replace")
            # The standard corpus has at most one empty line between paragraphs.
            yield re.sub(r"\n{3,}", "\n\n", text).strip()
        elif member.name.endswith((".xz", ".tar")):
            with tarfile.open(fileobj=io.BytesIO(members.extractfile(member).read())) as inner:
                yield from _texts(inner)


def _named(files, *endings):
    """The only file whose name has one of these endings."""
    found = [file for file in files if file.name.endswith(endings)]
    if len(found) != 1:
        raise LookupError(f"there are {len(found)} files *{' or *'.join(endings)} among them, one is needed")
    return found[0]
