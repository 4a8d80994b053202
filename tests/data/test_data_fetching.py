"""Filling the cache: a mirror over the network, public addresses, and what can go wrong."""

import hashlib
import socket

import pytest
from small_sets import enter, files_in, put, refused, small_file

from loupe.data import CATALOG, DataError, PublicForm, adopt, fetch, load, locate, verify
from loupe.data.text import decode


def closed_port():
    """An address on this machine where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def plain(monkeypatch, server):
    """A set whose authors publish a text that needs converting."""
    raw = "Ten & 2 Öfen!".encode()
    file = small_file("text/raw.txt", raw, f"{server.url}/raw.txt", algorithm="md5")
    enter(monkeypatch, "plain", public=PublicForm((file,), "text/plain27.txt", "plain27"))
    server.pages["/raw.txt"] = raw
    return raw


def test_from_a_mirror_over_the_network(tiny, server, cache, monkeypatch):
    server.pages["/base/text/tiny.txt"] = tiny
    monkeypatch.setenv("LOUPE_DATA_URL", f"{server.url}/base/")
    location = fetch("tiny")
    assert (location.where, location.form, location.set_aside) == ("cache", "loupe", ())
    assert files_in(cache) == ["text/tiny.txt"]
    assert decode(load("tiny").ids) == tiny.decode()
    server.pages.clear()
    assert fetch("tiny") == location


def test_what_is_in_the_mirror_is_not_fetched(tiny, tmp_path, cache, monkeypatch):
    put(tmp_path / "mirror", {"text/tiny.txt": tiny})
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path / "mirror"))
    assert fetch("tiny").where == "mirror"
    assert not cache.exists()


def test_built_in_needs_nothing():
    assert fetch("digits").where == "built in"


def test_from_an_address_that_serves_the_same_bytes(tiny, server, monkeypatch):
    enter(monkeypatch, "tiny", (small_file("text/tiny.txt", tiny, f"{server.url}/elsewhere"),))
    server.pages["/elsewhere"] = tiny
    assert fetch("tiny").where == "cache"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("{server}/wrong", r"tiny.txt gave other bytes than the catalog's sha256:.*not kept"),
        ("{server}/nothing", "HTTP 404"),
        ("{nobody}", r"Could not fetch 'tiny'.*check the network.*or set LOUPE_DATA"),
        ("nowhere", r"nowhere/text/tiny.txt is not an address"),
    ],
)
def test_what_a_bad_address_gives_is_not_kept(address, words, tiny, server, cache, monkeypatch):
    server.pages["/wrong/text/tiny.txt"] = tiny[::-1]
    monkeypatch.setenv("LOUPE_DATA_URL", address.format(server=server.url, nobody=closed_port()))
    refused(words, fetch, "tiny")
    assert files_in(cache) == []


def test_a_connection_that_drops_leaves_nothing(tiny, server, cache, monkeypatch):
    server.pages["/text/tiny.txt"] = tiny
    server.cut = True
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    refused(r"did not answer as expected.*check the network", fetch, "tiny")
    assert files_in(cache) == []
    assert locate("tiny").where == "missing"
    server.cut = False
    assert fetch("tiny").where == "cache"


def test_no_source_at_all(tiny):
    refused(r"'tiny' is missing.*set LOUPE_DATA_URL", fetch, "tiny")
    refused(r"'eth_ucy' is missing.*adopt", fetch, "eth_ucy")


def test_damaged_cached_file_is_set_aside_not_lost(tiny, server, cache, monkeypatch):
    server.pages["/text/tiny.txt"] = tiny
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    path = cache / "text/tiny.txt"
    for k, name in enumerate(("tiny.txt.damaged", "tiny.txt.damaged-2")):
        put(cache, {"text/tiny.txt": b"damaged" * (k + 1)})
        location = fetch("tiny")
        assert location.set_aside == (cache / "text" / name,)
        assert location.set_aside[0].read_bytes() == b"damaged" * (k + 1)
        assert path.read_bytes() == tiny
    path.write_bytes(b"again")
    server.pages.clear()
    refused(r"kept as .*tiny.txt.damaged-3", fetch, "tiny")


def test_damaged_file_of_an_incomplete_set_is_set_aside_too(server, cache, monkeypatch):
    parts = {f"text/part{k}.txt": b"part " + b"ab"[k : k + 1] for k in range(2)}
    enter(monkeypatch, "two", tuple(small_file(path, content) for path, content in parts.items()))
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    server.pages.update({f"/{path}": content for path, content in parts.items()})
    put(cache, {"text/part0.txt": b"wrong"})
    assert [path.name for path in fetch("two").set_aside] == ["part0.txt.damaged"]
    assert {check.outcome for check in verify("two")} == {"ok"}


def test_public_form_is_converted_and_its_digest_noted(plain, cache):
    location = fetch("plain")
    assert (location.where, location.form) == ("cache", "public")
    assert files_in(cache) == ["text/plain27.txt", "text/plain27.txt.sha256"]
    assert decode(load("plain").ids) == "ten and two ofen"
    assert [check.outcome for check in verify("plain")] == ["ok"]
    digest = hashlib.sha256(b"ten and two ofen").hexdigest()
    assert (cache / "text/plain27.txt.sha256").read_text() == f"{digest}  plain27.txt\n"


def test_damaged_or_unfinished_converted_file(plain, cache):
    fetch("plain")
    path = cache / "text/plain27.txt"
    path.write_bytes(b"ten and")
    refused(r"plain27.txt is damaged.*`loupe data fetch plain`", load, "plain")
    assert [check.outcome for check in verify("plain")] == ["wrong digest"]
    assert fetch("plain").set_aside == (cache / "text/plain27.txt.damaged",)
    (cache / "text/plain27.txt.sha256").unlink()
    refused("no record of its digest", load, "plain")


def test_public_form_with_other_bytes_is_refused(plain, server, cache):
    server.pages["/raw.txt"] = b"something else"
    refused("other bytes than the catalog's md5", fetch, "plain")
    assert files_in(cache) == []


def test_adopt_converts_files_fetched_by_hand(plain, tmp_path):
    (tmp_path / "mine.txt").write_bytes(plain)
    assert adopt("plain", tmp_path / "mine.txt").form == "public"
    assert decode(load("plain").ids) == "ten and two ofen"


def test_adopt_refuses_with_one_sentence(tmp_path, cache):
    refused("Nothing converts files to 'airport'", adopt, "airport", tmp_path)
    refused("needs the authors' files", adopt, "eth_ucy")
    refused(r"no file or folder.*nothing.tgz", adopt, "cora", tmp_path / "nothing.tgz")
    (tmp_path / "cora.tgz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"could not be converted to 'cora'.*check that they are the files"):
        adopt("cora", tmp_path / "cora.tgz")
    assert not cache.exists()


def test_the_authors_form_is_the_last_resort(plain, server, monkeypatch):
    enter(monkeypatch, "plain", (small_file("text/ours27.txt", b"ours"),), CATALOG["plain"].public)
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    assert fetch("plain").form == "public"
    server.pages["/text/ours27.txt"] = b"ours"
    assert fetch("plain", form="loupe").form == "loupe"
    assert decode(load("plain").ids) == "ours"
    assert decode(load("plain", form="public").ids) == "ten and two ofen"
    server.pages.clear()
    (fetch("plain").paths[0]).unlink()
    refused("HTTP 404", fetch, "plain", form="loupe")


def test_originals_are_kept_when_the_conversion_fails(plain, server, cache, monkeypatch):
    monkeypatch.setattr("loupe.data.converters.plain27", lambda paths: paths[5])
    refused("could not be converted to 'plain'", fetch, "plain")
    assert files_in(cache) == ["originals/plain/text/raw.txt"]


def test_cache_that_cannot_be_written(tiny, plain, server, cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"in the way")
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    (tmp_path / "mine.txt").write_bytes(plain)
    server.pages["/text/tiny.txt"] = tiny
    refused(r"^The cache .*file/text cannot be written.*set LOUPE_CACHE", fetch, "tiny")
    refused(r"cache .*file/text cannot be written.*set LOUPE_CACHE", adopt, "plain", tmp_path / "mine.txt")
