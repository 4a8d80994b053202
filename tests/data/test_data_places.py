"""Finding files: the three places, their order, digests, and what the errors say."""

from pathlib import Path

import pytest
from small_sets import put, refused

import loupe.data
from loupe.data import CATALOG, DataError, load, locate, places, verify
from loupe.data.places import cache_root, file_digest
from loupe.data.text import decode

TINY = "text/tiny.txt"


def test_built_in_sets_are_always_there():
    for name in ("digits", "cpython_topics"):
        assert locate(name).where == "built in"
        assert [check.outcome for check in verify(name)] == ["ok"]


def test_mirror_comes_before_cache(tiny, cache, tmp_path, monkeypatch):
    in_cache = put(cache, {TINY: tiny})
    assert locate("tiny").where == "cache"
    assert locate("tiny").paths == (in_cache,)
    in_mirror = put(tmp_path / "mirror", {TINY: tiny})
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path / "mirror"))
    assert locate("tiny").where == "mirror"
    assert locate("tiny").paths == (in_mirror,)
    assert decode(load("tiny").ids) == tiny.decode()


def test_mirror_may_be_relative_to_the_current_folder(tiny, tmp_path, monkeypatch):
    put(tmp_path / "mirror", {TINY: tiny})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOUPE_DATA", "mirror")
    assert locate("tiny").paths == (tmp_path / "mirror/text/tiny.txt",)
    assert len(load("tiny", characters=6).ids) == 6


def test_mirror_that_is_no_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path / "nowhere"))
    refused(r"nowhere.*not a folder.*unset it", locate, "tiny")


def test_cache_is_the_one_of_pooch(monkeypatch):
    import pooch

    monkeypatch.delenv("LOUPE_CACHE")
    assert cache_root() == Path(pooch.os_cache("loupe"))


def test_unknown_names_give_near_ones():
    refused("no data set 'minst': did you mean mnist", load, "minst")
    refused("no data set 'xyzzy': the catalog has mnist, ", locate, "xyzzy")


def test_unknown_form_and_option():
    refused("no form 'best' of a data set: the forms are", locate, "mnist", form="best")
    refused("'digits' has no option 'size': its options are test, seed", load, "digits", size=3)
    refused("'earth' has no option 'event': it has no options", load, "earth", event="volc")


def test_missing_set_says_what_to_do(tmp_path, monkeypatch):
    refused(r"'mnist' is missing.*LOUPE_DATA.*mnist/mnist.npz.*`loupe data fetch mnist`", load, "mnist")
    refused(r"'airport' is missing.*LOUPE_DATA_URL", load, "airport")
    refused(r"'eth_ucy' is missing.*clone.*loupe.data.adopt", load, "eth_ucy")
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path))
    refused(r"the mirror .* lacks mnist/mnist.npz", load, "mnist")


@pytest.mark.parametrize("name", CATALOG)
def test_every_missing_message_is_one_sentence(name):
    if CATALOG[name].built_in:
        return
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ("loupe data fetch" in message) or ("adopt" in message)


def test_damaged_file_of_the_mirror(tiny, tmp_path, monkeypatch):
    path = put(tmp_path / "mirror", {TINY: tiny[:-3]})
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path / "mirror"))
    refused(r"tiny.txt has the wrong digest.*unset LOUPE_DATA", load, "tiny")
    (check,) = verify("tiny")
    assert (check.outcome, check.where, check.path) == ("wrong digest", "mirror", path)
    refused("wrong digest", loupe.data.fetch, "tiny")
    assert path.read_bytes() == tiny[:-3]


def test_damaged_file_of_the_cache_is_named_and_kept(tiny, cache):
    path = put(cache, {TINY: tiny + b"x"})
    refused(r"cached file .*tiny.txt is damaged.*`loupe data fetch tiny`", load, "tiny")
    assert path.read_bytes() == tiny + b"x"


def test_a_file_is_hashed_once_until_it_changes(tiny, cache, monkeypatch):
    path = put(cache, {TINY: tiny})
    hashed = []
    monkeypatch.setattr(places, "file_digest", lambda *given: hashed.append(given) or file_digest(*given))
    load("tiny")
    load("tiny")
    assert len(hashed) == 1
    path.write_bytes(tiny.upper() + b".")
    refused("damaged", load, "tiny")
    assert len(hashed) == 2


def test_verify_names_what_is_missing():
    checks = list(verify("novels27"))
    assert [check.outcome for check in checks] == ["missing"] * 3
    assert checks[0].file == "text/novels27_train.txt.xz"
    assert "LOUPE_DATA" in checks[0].detail
    assert [check.outcome for check in verify("text8")] == ["missing"]


def test_verify_looks_at_the_files_of_an_incomplete_set(cache):
    put(cache, {"text/novels27_valid.txt": b"not it"})
    assert [check.outcome for check in verify("novels27")] == ["missing", "wrong digest", "missing"]
