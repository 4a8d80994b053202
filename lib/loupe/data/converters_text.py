"""From published corpora to blocks of token ids, by the vocabularies that their users share.

The vocabulary is among the files that each converter gets. The tokenizers are those of the package
``tokenizers``, built here from their published parts.
"""

import gzip
import io
import json
import lzma
import re
import tarfile
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath

from loupe.data import token_blocks
from loupe.data.places import own_files
from loupe.data.token_blocks import BlockWriter

HELD_OUT = 100  # of so many documents of OpenWebText the last is for validation


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

    Each passage begins with a newline and its curly double quotes are made straight, as those do who report
    perplexities on it.
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
        The id of each piece, and the pairs in the order in which they are joined.

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
    """Ids of each text; many are given to the tokenizer at once, which then uses all cores."""
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
    """A tar archive, read once from its start to its end, so that it is never unpacked to the disk.

    It is decompressed here because tarfile takes a compressed stream that was cut for a shorter one.
    """
    decompress = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with (
        decompress(path, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive,
    ):
        yield archive


def _web_pages(archives):
    """Texts of all archives, in the order in which they lie there."""
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
            # The corpus as it is known has at most one empty line between paragraphs.
            yield re.sub(r"\n{3,}", "\n\n", text).strip()
        elif member.name.endswith((".xz", ".tar")):
            with tarfile.open(fileobj=io.BytesIO(members.extractfile(member).read())) as inner:
                yield from _texts(inner)


def _named(files, *endings):
    """The only file whose name ends so."""
    found = [file for file in files if file.name.endswith(endings)]
    if len(found) != 1:
        raise LookupError(f"there are {len(found)} files *{' or *'.join(endings)} among them, one is needed")
    return found[0]
