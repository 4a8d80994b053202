"""Catalog entries: text."""

from loupe.data.records import DataFile, DataSet, PublicForm

_WIKITEXT_RAW = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8"
    "/word_language_model/data/wikitext-2"
)
_SHAKESPEARE_RAW = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
    "/data/tinyshakespeare/input.txt"
)
_GPT2_RAW = "https://openaipublic.blob.core.windows.net/gpt-2"
# The vocabularies of bert-base-uncased and GPT-2: an id stands for a line, or an entry, of these files.
_BERT_WORDS = DataFile(
    "bert/vocab.txt",
    "sha256:07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    231_508,
    (
        "https://huggingface.co/google-bert/bert-base-uncased/resolve"
        "/86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt",
        "https://s3.amazonaws.com/models.huggingface.co/bert/bert-base-uncased-vocab.txt",
    ),
)
_GPT2_WORDS = (
    DataFile(
        "gpt2/encoder.json",
        "sha256:196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1_042_301,
        (f"{_GPT2_RAW}/encodings/main/encoder.json",),
    ),
    DataFile(
        "gpt2/vocab.bpe",
        "sha256:1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456_318,
        (f"{_GPT2_RAW}/encodings/main/vocab.bpe",),
    ),
)


# The compressed copies in the box.
_BOXED = {
    "zs_wikitext2": DataFile(
        "text/zs_wikitext2_test27.txt.xz",
        "sha256:7d9639a3653308f3a0c6907ba7ea927a0ba4973e83021f1468035ba5dcfd8649",
        156_764,
    ),
    "zs_shakespeare": DataFile(
        "text/zs_shakespeare27.txt.xz",
        "sha256:b6fedff62deec958f06bee3eb58cb2ec07453cd0778f15a58308b04537d55a7f",
        184_108,
    ),
    "zs_state_union": DataFile(
        "text/zs_state_union27.txt.xz",
        "sha256:ac0b07325554dd1cd7b6f08365d5e3a6e796da1c8863441371ab2391e7a85e9b",
        148_520,
    ),
}


def _text(name, title, file_name, digest, size, licence, citation, homepage, note, public=None, urls=()):
    """One zero-shot text in the 27-symbol alphabet."""
    file, boxed = (
        DataFile(f"text/{file_name}", digest, size, urls),
        (_BOXED[name],) if name in _BOXED else False,
    )
    return DataSet(
        name,
        title,
        "text",
        "text:zero_shot",
        licence,
        citation,
        homepage,
        note,
        ("sedd",),
        (file,),
        public,
        in_box=boxed,
    )


TEXTS = (
    DataSet(
        name="novels27",
        title="99 English novels, 1840 to 1920, in 27 symbols",
        kind="text",
        reader="text:novels",
        files=(
            DataFile(
                "text/novels27_train.txt.xz",
                "sha256:7df7fef0872c4bef4d57aed8ad907eb09d5e123f3e11884b04f2816864ac278b",
                14_881_228,
            ),
            DataFile(
                "text/novels27_valid.txt",
                "sha256:b725d69f50189700e9c4ca03f38c26d75ef51b634e4fe2c03a77e121db9ed77e",
                1_031_104,
            ),
            DataFile(
                "text/novels27_test.txt",
                "sha256:559f8afe5f016b62533ec79af2403529b4ce9b911fe15aa90dcee08354a0ec6b",
                1_077_518,
            ),
        ),
        licence="texts in the public domain (late authors: check where copyright lasts 70 years); markup "
        "CC BY 4.0",
        citation="ELTeC-eng, ed. L. Burnard, COST Action CA16204, doi:10.5281/zenodo.3533868",
        homepage="https://github.com/COST-ELTeC/ELTeC-eng",
        in_box=(
            DataFile(
                "text/novels27_train_8m.txt.xz",
                "sha256:978012afc93cf71003bd299ac88cb65ae85947583c0511af0631bd5d16298f2e",
                2_169_420,
            ),
            DataFile(
                "text/novels27_valid.txt.xz",
                "sha256:18129db97567bfa57e7d21addeae39a8c2bbf8ecf08635f0e0178300012854fe",
                299_928,
            ),
            DataFile(
                "text/novels27_test.txt.xz",
                "sha256:e42e0050f6effd3e6f8b1e83e0a08bce3a0e3300f33eb70958fd1a624679192b",
                318_668,
            ),
        ),
        source_note="Made from the TEI files of folder level1 at commit "
        "3db3b6738a836f0e1b276b6c9703e42f4297f978: "
        "text/body without note, gap, pb and ref, then loupe.data.text.normalise; training books cut into "
        "pieces of "
        "65,536 characters and shuffled, so any prefix is a fair sample. Not text8. The shuffle is not "
        "public: our "
        "files come through LOUPE_DATA or LOUPE_DATA_URL. A checkout holds the first 8,000,000 characters of "
        "the training part.",
        used_by=("sedd",),
    ),
    DataSet(
        name="text8",
        title="text8: 100,000,000 characters of English Wikipedia in 27 symbols",
        kind="text",
        reader="text:text8",
        public=PublicForm(
            files=(
                DataFile(
                    "text8/text8.zip",
                    "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                    urls=("https://mattmahoney.net/dc/text8.zip",),
                ),
            ),
            output="text8/text8.zip",
        ),
        licence="CC BY-SA (Wikipedia)",
        citation="M. Mahoney: About the test data, 2011",
        homepage="https://mattmahoney.net/dc/textdata.html",
        source_note="Public form only (31 MB). Parts of 90, 5 and 5 million characters, in order.",
        used_by=("sedd",),
    ),
    DataSet(
        name="lm1b",
        title="One Billion Words in blocks of 128 word pieces",
        kind="text",
        reader="token_blocks:lm1b",
        public=PublicForm(
            files=(
                DataFile(
                    "lm1b/1-billion-word-language-modeling-benchmark-r13output.tar.gz",
                    "sha256:01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e",
                    1_792_209_805,
                    (
                        "https://www.statmt.org/lm-benchmark"
                        "/1-billion-word-language-modeling-benchmark-r13output.tar.gz",
                    ),
                ),
                _BERT_WORDS,
            ),
            output="lm1b/lm1b_bert_128_train.npy",
            also=("lm1b/lm1b_bert_128_test.npy",),
            converter="lm1b",
            needs=("tokenizers", "text"),
        ),
        licence="packaging Apache-2.0; the texts are the news of the WMT 2011 corpus",
        citation="C. Chelba et al.: One billion word benchmark for measuring progress in statistical "
        "language modeling, 2013",
        homepage="https://www.statmt.org/lm-benchmark/",
        source_note="Public form only. The sentences as published, in the order of the archive (it is "
        "shuffled), in the word pieces of bert-base-uncased (its vocab.txt is fetched too), [SEP] after "
        "each, packed to 128; the test part is all 50 held-out files."
        " Needs the extra loupe[text]; allow hours.",
        used_by=("sedd",),
    ),
    DataSet(
        name="openwebtext",
        title="OpenWebText in blocks of 1,024 byte pairs",
        kind="text",
        reader="token_blocks:openwebtext",
        public=PublicForm(
            files=(),
            output="openwebtext/openwebtext_gpt2_1024_train.npy",
            also=("openwebtext/openwebtext_gpt2_1024_valid.npy",),
            converter="openwebtext",
            by_hand="download urlsf_subset00.tar to urlsf_subset20.tar from folder subsets of "
            "huggingface.co/datasets/Skylion007/openwebtext, and encoder.json and vocab.bpe from "
            f"{_GPT2_RAW}/encodings/main, into one folder, and give that folder",
            needs=("tokenizers", "text"),
        ),
        licence="packaging CC0; the texts are their authors'",
        citation="A. Gokaslan, V. Cohen: OpenWebText corpus, 2019",
        homepage="https://skylion007.github.io/OpenWebTextCorpus/",
        source_note="By hand (12.9 GB), because no public address with a known digest serves all of it; any "
        "of its archives will do for less. The byte pairs of GPT-2, <|endoftext|> after each document, "
        "packed to 1,024; the last of each 100 documents is in the valid part. Needs the extra loupe[text]; "
        "allow hours, and 18 GB for the blocks.",
        used_by=("sedd",),
    ),
    DataSet(
        name="lambada",
        title="LAMBADA test passages in blocks of 1,024 byte pairs",
        kind="text",
        reader="token_blocks:lambada",
        public=PublicForm(
            files=(
                DataFile(
                    "text/lambada_test.jsonl",
                    "sha256:4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
                    1_819_752,
                    (f"{_GPT2_RAW}/data/lambada_test.jsonl",),
                ),
                *_GPT2_WORDS,
            ),
            output="text/lambada_gpt2_1024_test.npy",
            converter="lambada",
            needs=("tokenizers", "text"),
        ),
        licence="CC BY 4.0 (LAMBADA); the file is as GPT-2's authors made it",
        citation="D. Paperno et al.: The LAMBADA dataset, 2016; A. Radford et al.: Language models are "
        "unsupervised multitask learners, 2019",
        homepage="https://github.com/openai/gpt-2",
        source_note="Public form only. The 5,153 passages, a newline before each and curly double quotes "
        "made straight, in the byte pairs of GPT-2 (its vocabulary is fetched too), <|endoftext|> after "
        "each, packed to 1,024. Needs the extra loupe[text].",
        used_by=("sedd",),
    ),
    _text(
        "zs_wikitext2",
        "WikiText-2 test articles in 27 symbols",
        "zs_wikitext2_test27.txt",
        "sha256:780b60282e982a68066652a13fa2558ad4b8def68a0a3d2c41a03e811af16deb",
        599_993,
        "CC BY-SA 3.0 / GFDL (Wikipedia)",
        "S. Merity et al.: Pointer sentinel mixture models, 2016",
        "https://github.com/pytorch/examples",
        "Made from wikitext2 (test): <unk> and the token N removed, ' @-@ ' and ' @.@ ' to a space, ' @,@ ' "
        "joined, then "
        "loupe.data.text.normalise; the first 600,000 characters.",
        PublicForm(
            (
                DataFile(
                    "text/wikitext2_test.txt",
                    "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                    1_256_449,
                    (f"{_WIKITEXT_RAW}/test.txt",),
                ),
            ),
            "text/zs_wikitext2_test27.txt",
            "wikitext27",
        ),
    ),
    _text(
        "zs_ptb",
        "Penn Treebank test part in 27 symbols",
        "zs_ptb_test27.txt",
        "sha256:7f9616b71904a492b56c800ef16f2715f7d83c9486bc0fd92907fd119b689290",
        406_277,
        "LDC / Dow Jones; research use only, do not publish",
        "M. Marcus et al.: Building a large annotated corpus of English: the Penn Treebank, 1993",
        "https://catalog.ldc.upenn.edu/LDC99T42",
        "Made from ptb (test): <unk> and the number token N removed, then loupe.data.text.normalise. Only "
        "through "
        "LOUPE_DATA or LOUPE_DATA_URL.",
    ),
    _text(
        "zs_shakespeare",
        "Tiny Shakespeare in 27 symbols",
        "zs_shakespeare27.txt",
        "sha256:d18410b49bddf6a464b124d0109b4f9c6ac6a727d33c030f7fe8e46c3ebc6635",
        599_998,
        "public domain",
        "W. Shakespeare; collected by A. Karpathy, 2015",
        "https://github.com/karpathy/char-rnn",
        "The first 600,000 characters after loupe.data.text.normalise. No digest of the original is known; "
        "its address "
        "holds the commit.",
        PublicForm(
            (DataFile("text/tinyshakespeare.txt", urls=(_SHAKESPEARE_RAW,)),),
            "text/zs_shakespeare_public27.txt",
            "plain27",
        ),
    ),
    _text(
        "zs_state_union",
        "State of the Union addresses since Truman in 27 symbols",
        "zs_state_union27.txt",
        "sha256:bef9ddab160a223d4984042c6b28f7dc18b7b1ff3f01d16b61153d77d3da2de4",
        599_997,
        "public domain (US government works)",
        "Presidents of the United States; collected by NLTK",
        "https://github.com/nltk/nltk_data",
        "Made from packages/corpora/state_union.zip at commit 5db857e6f7df11eabb5e5665836db9ec8df07e28 by "
        "loupe.data.text.normalise; the first 600,000 characters. Our file comes through LOUPE_DATA or "
        "LOUPE_DATA_URL.",
    ),
    DataSet(
        name="wikitext2",
        title="WikiText-2, valid and test parts, words",
        kind="text",
        reader="text:wikitext2",
        files=(
            DataFile(
                "text/wikitext2_valid.txt",
                "sha256:f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                1_121_681,
                (f"{_WIKITEXT_RAW}/valid.txt",),
            ),
            DataFile(
                "text/wikitext2_test.txt",
                "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                1_256_449,
                (f"{_WIKITEXT_RAW}/test.txt",),
            ),
        ),
        licence="CC BY-SA 3.0 / GFDL (Wikipedia)",
        citation="S. Merity et al.: Pointer sentinel mixture models, 2016",
        homepage="https://github.com/pytorch/examples",
        source_note="The variant with <unk>, not 'raw'; the public address serves the same bytes. The "
        "training part is "
        "not in the catalog.",
        used_by=("sedd",),
    ),
    DataSet(
        name="ptb",
        title="Penn Treebank, valid and test parts, words",
        kind="text",
        reader="text:ptb",
        files=(
            DataFile(
                "text/ptb_valid.txt",
                "sha256:c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                399_782,
            ),
            DataFile(
                "text/ptb_test.txt",
                "sha256:dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
                449_945,
            ),
        ),
        licence="LDC / Dow Jones; research use only, do not publish",
        citation="M. Marcus et al.: Building a large annotated corpus of English: the Penn Treebank, 1993",
        homepage="https://catalog.ldc.upenn.edu/LDC99T42",
        source_note="For evaluation only, and only through LOUPE_DATA or LOUPE_DATA_URL; no chapter needs "
        "it to run.",
        used_by=("sedd",),
    ),
    DataSet(
        name="cpython_topics",
        title="The help topics of CPython in 27 symbols",
        kind="text",
        reader="text:topics",
        licence="PSF-2.0",
        citation="Python Software Foundation: pydoc_data.topics",
        homepage="https://docs.python.org/3/library/pydoc.html",
        source_note="Ships with CPython, put through loupe.data.text.normalise; a few hundred thousand "
        "characters, which "
        "differ from one version of Python to the next: for trying code, not for numbers.",
        used_by=("sedd",),
        built_in=True,
    ),
)
