"""Published corpora to token blocks: download, convert, load, with small archives and vocabularies."""

import dataclasses
import importlib.util
import json
import lzma
import sys
import tomllib

import numpy as np
import pytest
from small_sets import files_in, put, refused, small_file, tar
from typer.testing import CliRunner

from loupe.cli import app
from loupe.data import CATALOG, DataError, adopt, fetch, load, locate, token_blocks, verify
from loupe.data.converters import HELD_OUT, byte_pairs, word_pieces
from loupe.experiment.folders import project_root

PIECES = ["[PAD]", "[UNK]", "[SEP]", "the", "cat", "sat", "##s", ".", "mat", "cafe"]
OWT_OUTPUTS = [f"openwebtext/openwebtext_gpt2_1024_{part}.npy" for part in ("train", "valid")]


def ids_of(words):
    """Word pieces by hand."""
    table = {piece.removeprefix("##"): k for k, piece in enumerate(PIECES)}
    return [table.get(word, 1) for word in words.split()]


@pytest.fixture
def bert(monkeypatch):
    """A vocabulary of ten word pieces in place of BERT's; gives ``vocab.txt``."""
    small = dataclasses.replace(token_blocks.BERT, size=len(PIECES), end=2)
    monkeypatch.setattr(token_blocks, "BERT", small)
    return "\n".join(PIECES).encode() + b"\n"


@pytest.fixture
def gpt2(monkeypatch):
    """A vocabulary of the 256 bytes, one pair and the end in place of GPT-2's; gives its two files."""
    from tokenizers import pre_tokenizers

    # The characters that stand for bytes: those of one byte come in the order of the published table.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, "th", "<|endoftext|>"]
    small = dataclasses.replace(token_blocks.GPT2, size=258, end=257)
    monkeypatch.setattr(token_blocks, "GPT2", small)
    encoder = json.dumps({word: k for k, word in enumerate(words)}).encode()
    return {"encoder.json": encoder, "vocab.bpe": b"#version: 0.2\nt h\n"}


def serve(monkeypatch, server, name, contents):
    """Let the files of a set come from the small server, with the digests of what is there."""
    files = []
    for file in CATALOG[name].public.files:
        content = contents[file.path.rpartition("/")[2]]
        server.pages["/" + file.path] = content
        files.append(small_file(file.path, content, f"{server.url}/{file.path}"))
    public = dataclasses.replace(CATALOG[name].public, files=tuple(files))
    monkeypatch.setitem(CATALOG, name, dataclasses.replace(CATALOG[name], public=public))


LM1B = "1-billion-word-language-modeling-benchmark-r13output"


def lm1b_archive(train=40, test=30):
    folder = f"{LM1B}/training-monolingual.tokenized.shuffled"
    heldout = f"{LM1B}/heldout-monolingual.tokenized.shuffled/news.en.heldout-000"
    return tar(
        {
            f"{LM1B}/README": b"the the the",
            f"{folder}/news.en-00001-of-00100": "The cats sat .\n\nThe Café sat\n".encode() * train,
            f"{folder}/news.en-00002-of-00100": b"the mat .\n" * train,
            f"{folder}/._news.en-00002-of-00100": b"junk",
            f"{heldout}00-of-00050": b"cat cat cat\n" * test,
            f"{heldout}01-of-00050": b"mat dog [SEP]\n" * test,
        }
    )


def test_lm1b_is_fetched_converted_and_loaded(bert, server, cache, monkeypatch):
    archive = lm1b_archive()
    serve(monkeypatch, server, "lm1b", {f"{LM1B}.tar.gz": archive, "vocab.txt": bert})
    assert [check.outcome for check in verify("lm1b")] == ["missing", "missing"]
    location = fetch("lm1b")
    assert (location.where, location.form) == ("cache", "public")
    kept = [f"lm1b/lm1b_bert_128_{part}.npy" for part in ("test", "train")]
    assert files_in(cache) == sorted([*kept, *(f"{name}.sha256" for name in kept)])
    assert [check.outcome for check in verify("lm1b")] == ["ok", "ok"]

    text = load("lm1b")
    row = 40 * (ids_of("the cat s sat . [SEP]") + ids_of("the cafe sat [SEP]")) + 40 * ids_of(
        "the mat . [SEP]"
    )
    assert isinstance(text.ids, np.memmap)
    assert (text.name, text.split, text.vocabulary) == ("lm1b", "train", token_blocks.BERT)
    assert text.ids.shape == (len(row) // 128, 128)
    assert text.ids.ravel().tolist() == row[: text.ids.size]
    # "[SEP]" in the text is text, not the end: three pieces that this vocabulary lacks.
    row = 30 * ids_of("cat cat cat [SEP]") + 30 * [*ids_of("mat dog"), 1, 1, 1, 2]
    test = load("lm1b", split="test").ids
    assert test.ravel().tolist() == row[: test.size]
    refused("'lm1b' has no split 'valid': it has 'train', 'test'", load, "lm1b", split="valid")
    server.pages.clear()
    assert fetch("lm1b") == location


def test_one_damaged_part_is_made_again(bert, server, cache, monkeypatch):
    serve(monkeypatch, server, "lm1b", {f"{LM1B}.tar.gz": lm1b_archive(), "vocab.txt": bert})
    fetch("lm1b")
    path = cache / "lm1b/lm1b_bert_128_test.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-7])
    refused("damaged", load, "lm1b", split="test")
    assert len(load("lm1b").ids)
    assert [check.outcome for check in verify("lm1b")] == ["ok", "wrong digest"]
    assert [aside.name for aside in fetch("lm1b").set_aside] == ["lm1b_bert_128_test.npy.damaged"]
    assert path.read_bytes() == good
    path.unlink()
    assert locate("lm1b").where == "missing"
    assert [check.outcome for check in verify("lm1b")] == ["ok", "missing"]


def test_an_archive_that_is_cut_or_other_leaves_nothing(bert, tmp_path, cache):
    (tmp_path / "vocab.txt").write_bytes(bert)
    archive = tmp_path / f"{LM1B}.tar.gz"
    for content in (lm1b_archive()[:-60], b"not an archive", b""):
        archive.write_bytes(content)
        with pytest.raises(
            DataError, match=r"could not be converted to 'lm1b'.*check that they are the files"
        ):
            adopt("lm1b", archive, tmp_path / "vocab.txt")
    archive.write_bytes(lm1b_archive(test=1))
    with pytest.raises(DataError, match="2 documents with 10 ids do not fill one block of 128"):
        adopt("lm1b", archive, tmp_path / "vocab.txt")
    assert files_in(cache) == []
    refused(r"there are 0 files \*vocab.txt among them, one is needed", adopt, "lm1b", archive)
    archive.write_bytes(lm1b_archive())
    assert adopt("lm1b", tmp_path).form == "public"


def test_another_vocabulary_is_refused(tmp_path):
    put(tmp_path, {"vocab.txt": "\n".join(PIECES).encode(), f"{LM1B}.tar.gz": lm1b_archive()})
    refused(
        r"has 10 pieces, \[SEP\] being number 2; bert-base-uncased has 30522 and",
        lambda: adopt("lm1b", tmp_path),
    )
    put(tmp_path, {"vocab.bpe": b"t h\n", "encoder.json": b"[]"})
    with pytest.raises(ValueError, match=r"encoder.json, .*vocab.bpe: "):
        byte_pairs(tmp_path / "encoder.json", tmp_path / "vocab.bpe")


def test_word_pieces_are_those_of_lower_case_text(bert, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(bert)
    tokenizer = word_pieces(tmp_path / "vocab.txt")
    assert tokenizer.encode("The CATS, café.").tokens == ["the", "cat", "##s", "[UNK]", "cafe", "."]


def test_byte_pairs_lose_nothing(gpt2, tmp_path):
    put(tmp_path, gpt2)
    tokenizer = byte_pairs(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    text = "\nThe thé <|endoftext|>  “th”\t🙂"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert 257 not in ids  # written out in a text, the end is text
    assert ids.count(256) == 2


def web_pages(count=250):
    return [f"page {k}\n\n\n\nof {'thé ' * 150}\n" for k in range(count)]


def packed(pages, gpt2, tmp_path):
    """The row of ids that pages should become, one page after another."""
    put(tmp_path, gpt2)
    tokenizer = byte_pairs(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    return [
        k for page in pages for k in [*tokenizer.encode(page.replace("\n\n\n\n", "\n\n").strip()).ids, 257]
    ]


def subset(pages, number):
    """One .xz of the corpus: an archive of texts."""
    return lzma.compress(tar({f"{number}-{k:04d}.txt": page.encode() for k, page in enumerate(pages)}, "w:"))


def test_openwebtext_in_the_layouts_of_the_hub_and_of_old(gpt2, tmp_path, cache, monkeypatch):
    pages = web_pages()
    inner = {
        f"openwebtext/urlsf_subset0{k}-1_data.xz": subset(pages[100 * k : 100 * k + 100], k) for k in range(3)
    }
    layouts = {
        "hub": {f"urlsf_subset0{k}.tar": tar({name: inner[name]}, "w:") for k, name in enumerate(inner)},
        "old": {"openwebtext.tar.xz": tar(inner, "w:xz")},
        "bare": {name.rpartition("/")[2]: content for name, content in inner.items()},
    }
    row = packed([page for k, page in enumerate(pages) if k % HELD_OUT != HELD_OUT - 1], gpt2, tmp_path)
    held_out = packed(pages[HELD_OUT - 1 :: HELD_OUT], gpt2, tmp_path)
    for layout, files in layouts.items():
        folder = tmp_path / layout
        put(folder / "subsets", files)
        put(folder, gpt2)
        monkeypatch.setenv("LOUPE_CACHE", str(cache / layout))
        assert adopt("openwebtext", folder).form == "public"
        train, valid = load("openwebtext"), load("openwebtext", split="valid")
        assert train.ids.shape == (len(row) // 1024, 1024)
        assert train.ids.ravel().tolist() == row[: train.ids.size]
        assert valid.ids.ravel().tolist() == held_out[: valid.ids.size]
        assert len(valid.ids) == len(held_out) // 1024 == 1
        assert train.vocabulary.end == 257


CUT = subset(web_pages(), 0)[:-500]
HUB = tar({"a/urlsf_subset00-1_data.xz": subset(web_pages(), 0)}, "w:")


@pytest.mark.parametrize(
    ("archives", "words"),
    [
        ({}, "there is no .tar or .xz archive among them"),
        ({"urlsf_subset00-1_data.xz": CUT}, "could not be converted to 'openwebtext'"),
        (
            {"urlsf_subset00-1_data.xz": tar({"a/inner_data.xz": CUT}, "w:")},
            "could not be converted to 'openwebtext'",
        ),
        (
            {"urlsf_subset00.tar": HUB[:1500]},
            r"could not be converted to 'openwebtext' \(unexpected end of data",
        ),
    ],
)
def test_openwebtext_without_an_archive_or_with_a_cut_one(archives, words, gpt2, tmp_path, cache):
    put(tmp_path, gpt2 | archives)
    refused(words, adopt, "openwebtext", tmp_path)
    assert files_in(cache) == []


def test_openwebtext_is_by_hand():
    for act in (fetch, load, lambda name: adopt(name)):
        refused(r"urlsf_subset00.tar .* encoder.json and vocab.bpe from https://", act, "openwebtext")
    assert [(check.file, check.outcome) for check in verify("openwebtext")] == [
        (output, "missing") for output in OWT_OUTPUTS
    ]


def test_lambada_is_fetched_converted_and_loaded(gpt2, server, tmp_path, monkeypatch):
    passages = [f"“Oh, {'the ' * 100}{k}” ‘no’ \n" for k in range(20)]
    lines = "".join(json.dumps({"text": passage}) + "\n" for passage in passages)
    serve(monkeypatch, server, "lambada", {"lambada_test.jsonl": lines.encode(), **gpt2})
    assert fetch("lambada").form == "public"
    ids = load("lambada").ids.ravel()
    straight = [passage.replace("“", '"').replace("”", '"').strip() for passage in passages]
    # packed() strips, and the newline before each passage is put by hand.
    newline = packed(["x\ny"], gpt2, tmp_path)[1]
    row = [k for passage in straight for k in [newline, *packed([passage], gpt2, tmp_path)]]
    assert len(ids) > 3000
    assert ids.tolist() == row[: len(ids)]


def test_without_the_package_nothing_is_downloaded(bert, server, tmp_path, cache, monkeypatch):
    serve(monkeypatch, server, "lm1b", {f"{LM1B}.tar.gz": lm1b_archive(), "vocab.txt": bert})
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tokenizers" else find(name)
    )
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    sentence = (
        r"^Converting 'lm1b' needs the package tokenizers, .* `pip install tokenizers`, or .*extra text"
    )
    refused(sentence, fetch, "lm1b")
    refused(sentence, adopt, "lm1b", tmp_path)
    assert files_in(cache) == []


def test_the_extra_exists():
    extras = tomllib.loads((project_root() / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    needs = {entry.public.needs for entry in CATALOG.values() if entry.public and entry.public.needs}
    assert needs == {("tokenizers", "text")}
    assert all(any(line.startswith(package) for line in extras[extra]) for package, extra in needs)


def test_a_full_disk_is_not_blamed_on_the_files(bert, tmp_path, monkeypatch):
    def full(self, document):
        raise OSError(28, "No space left on device")

    put(tmp_path, {"vocab.txt": bert, f"{LM1B}.tar.gz": lm1b_archive()})
    monkeypatch.setattr(token_blocks.BlockWriter, "add", full)
    refused(r"cannot be written \(No space left on device\): make room", adopt, "lm1b", tmp_path)


def test_the_commands_list_and_check_the_corpora(bert, server, cache, monkeypatch):
    serve(monkeypatch, server, "lm1b", {f"{LM1B}.tar.gz": lm1b_archive(), "vocab.txt": bert})
    runner = CliRunner()
    listed = runner.invoke(app, ["data"]).output
    for name in ("lm1b", "openwebtext", "lambada"):
        (line,) = [line for line in listed.splitlines() if line.startswith(name + " ")]
        assert line.split()[1] == "no"
    fetched = runner.invoke(app, ["data", "fetch", "lm1b"])
    assert fetched.exit_code == 0
    assert fetched.output.splitlines()[0] == "lm1b: cache"
    assert len(fetched.output.splitlines()) == 3
    assert runner.invoke(app, ["data", "verify", "lm1b"]).exit_code == 0
    (line,) = [line for line in runner.invoke(app, ["data"]).output.splitlines() if line.startswith("lm1b ")]
    assert line.split()[1] == "cache"
    absent = runner.invoke(app, ["data", "verify", "openwebtext"])
    assert absent.exit_code == 1
    assert "(missing)" in str(absent.exception)


def test_the_vocabularies_are_the_published_ones():
    assert (token_blocks.BERT.size, token_blocks.BERT.end) == (30_522, 102)
    assert (token_blocks.GPT2.size, token_blocks.GPT2.end) == (50_257, 50_256)
    assert max(token_blocks.BERT.size, token_blocks.GPT2.size) <= 1 << 16
