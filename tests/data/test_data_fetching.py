"""Filling the cache: a mirror over the network, public addresses, and what can go wrong."""

import dataclasses
import hashlib
import socket

import numpy as np
import pytest

from loupe.data import CATALOG, DataError, DataFile, DataSet, PublicForm, adopt, fetch, load, locate, verify
from loupe.data.door import READERS
from loupe.data.text import decode


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def closed_port():
    """An address on this machine where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def plain(monkeypatch, server):
    """A set whose authors publish a text that needs converting."""
    raw = "Ten & 2 Öfen!".encode()
    entry = DataSet(
        "plain",
        "Plain",
        "text",
        "none",
        "none",
        "https://example.org",
        "A note.",
        (),
        (),
        PublicForm(
            (
                DataFile(
                    "text/raw.txt", "md5:" + hashlib.md5(raw).hexdigest(), None, (f"{server.url}/raw.txt",)
                ),
            ),
            "text/plain27.txt",
            "plain27",
        ),
    )
    server.pages["/raw.txt"] = raw
    monkeypatch.setitem(CATALOG, "plain", entry)
    monkeypatch.setitem(READERS, "plain", "text:zero_shot")
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
    (tmp_path / "mirror/text").mkdir(parents=True)
    (tmp_path / "mirror/text/tiny.txt").write_bytes(tiny)
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path / "mirror"))
    assert fetch("tiny").where == "mirror"
    assert not cache.exists()


def test_built_in_needs_nothing():
    assert fetch("digits").where == "built in"


def test_from_an_address_that_serves_the_same_bytes(tiny, server, monkeypatch):
    file = DataFile("text/tiny.txt", CATALOG["tiny"].files[0].digest, len(tiny), (f"{server.url}/elsewhere",))
    entry = DataSet("tiny", "T", "text", "-", "-", "https://example.org", "-", (), (file,))
    monkeypatch.setitem(CATALOG, "tiny", entry)
    monkeypatch.setitem(READERS, "tiny", "text:zero_shot")
    server.pages["/elsewhere"] = tiny
    assert fetch("tiny").where == "cache"


def test_wrong_bytes_are_not_kept(tiny, server, cache, monkeypatch):
    server.pages["/text/tiny.txt"] = tiny[::-1]
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    with pytest.raises(DataError, match=r"tiny.txt gave other bytes than the catalog's sha256:.*not kept"):
        fetch("tiny")
    assert files_in(cache) == []


def test_a_connection_that_drops_leaves_nothing(tiny, server, cache, monkeypatch):
    server.pages["/text/tiny.txt"] = tiny
    server.cut = True
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    with pytest.raises(DataError, match=r"did not answer as expected.*check the network"):
        fetch("tiny")
    assert files_in(cache) == []
    assert locate("tiny").where == "missing"
    server.cut = False
    assert fetch("tiny").where == "cache"


def test_no_network(tiny, cache, monkeypatch):
    monkeypatch.setenv("LOUPE_DATA_URL", closed_port())
    with pytest.raises(DataError, match=r"Could not fetch 'tiny'.*check the network.*or set LOUPE_DATA"):
        fetch("tiny")
    assert files_in(cache) == []


def test_page_that_does_not_exist(tiny, server, monkeypatch):
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    with pytest.raises(DataError, match="HTTP 404"):
        fetch("tiny")


def test_address_that_is_none(tiny, monkeypatch):
    monkeypatch.setenv("LOUPE_DATA_URL", "nowhere")
    with pytest.raises(DataError, match=r"nowhere/text/tiny.txt is not an address"):
        fetch("tiny")


def test_no_source_at_all(tiny):
    with pytest.raises(DataError, match=r"'tiny' is missing.*set LOUPE_DATA_URL"):
        fetch("tiny")
    with pytest.raises(DataError, match=r"'eth_ucy' is missing.*adopt"):
        fetch("eth_ucy")


def test_damaged_cached_file_is_set_aside_not_lost(tiny, server, cache, monkeypatch):
    server.pages["/text/tiny.txt"] = tiny
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    path = cache / "text/tiny.txt"
    for k, name in enumerate(("tiny.txt.damaged", "tiny.txt.damaged-2")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"damaged" * (k + 1))
        location = fetch("tiny")
        assert location.set_aside == (cache / "text" / name,)
        assert location.set_aside[0].read_bytes() == b"damaged" * (k + 1)
        assert path.read_bytes() == tiny
    path.write_bytes(b"again")
    server.pages.clear()
    with pytest.raises(DataError, match=r"kept as .*tiny.txt.damaged-3"):
        fetch("tiny")


def test_damaged_file_of_an_incomplete_set_is_set_aside_too(server, cache, monkeypatch):
    parts = {f"text/part{k}.txt": b"part " + b"ab"[k : k + 1] for k in range(2)}
    files = tuple(DataFile(p, "sha256:" + hashlib.sha256(c).hexdigest(), len(c)) for p, c in parts.items())
    entry = DataSet("two", "T", "text", "-", "-", "https://example.org", "-", (), files)
    monkeypatch.setitem(CATALOG, "two", entry)
    monkeypatch.setitem(READERS, "two", "text:zero_shot")
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    server.pages.update({f"/{path}": content for path, content in parts.items()})
    (cache / "text").mkdir(parents=True)
    (cache / "text/part0.txt").write_bytes(b"wrong")
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
    with pytest.raises(DataError, match=r"plain27.txt is damaged.*`loupe data fetch plain`"):
        load("plain")
    assert [check.outcome for check in verify("plain")] == ["wrong digest"]
    assert fetch("plain").set_aside == (cache / "text/plain27.txt.damaged",)
    (cache / "text/plain27.txt.sha256").unlink()
    with pytest.raises(DataError, match="no record of its digest"):
        load("plain")


def test_public_form_with_other_bytes_is_refused(plain, server, cache):
    server.pages["/raw.txt"] = b"something else"
    with pytest.raises(DataError, match="other bytes than the catalog's md5"):
        fetch("plain")
    assert files_in(cache) == []


def test_adopt_converts_files_fetched_by_hand(plain, tmp_path):
    (tmp_path / "mine.txt").write_bytes(plain)
    assert adopt("plain", tmp_path / "mine.txt").form == "public"
    assert (
        load("plain").ids.tolist()
        == np.array([20, 5, 14, 0, 1, 14, 4, 0, 20, 23, 15, 0, 15, 6, 5, 14]).tolist()
    )


def test_adopt_refuses_with_one_sentence(tmp_path, cache):
    with pytest.raises(DataError, match="Nothing converts files to 'airport'"):
        adopt("airport", tmp_path)
    with pytest.raises(DataError, match="needs the authors' files"):
        adopt("eth_ucy")
    with pytest.raises(DataError, match=r"no file or folder.*nothing.tgz"):
        adopt("cora", tmp_path / "nothing.tgz")
    (tmp_path / "cora.tgz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"could not be converted to 'cora'.*check that they are the files"):
        adopt("cora", tmp_path / "cora.tgz")
    assert not cache.exists()


def test_the_authors_form_is_the_last_resort(plain, server, monkeypatch):
    files = (DataFile("text/ours27.txt", "sha256:" + hashlib.sha256(b"ours").hexdigest(), 4),)
    both = dataclasses.replace(CATALOG["plain"], files=files)
    monkeypatch.setitem(CATALOG, "plain", both)
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    assert fetch("plain").form == "public"
    server.pages["/text/ours27.txt"] = b"ours"
    assert fetch("plain", form="loupe").form == "loupe"
    assert decode(load("plain").ids) == "ours"
    assert decode(load("plain", form="public").ids) == "ten and two ofen"
    server.pages.clear()
    (fetch("plain").paths[0]).unlink()
    with pytest.raises(DataError, match="HTTP 404"):
        fetch("plain", form="loupe")


def test_originals_are_kept_when_the_conversion_fails(plain, server, cache, monkeypatch):
    monkeypatch.setattr("loupe.data.converters.plain27", lambda paths: paths[5])
    with pytest.raises(DataError, match="could not be converted to 'plain'"):
        fetch("plain")
    assert files_in(cache) == ["originals/plain/text/raw.txt"]


def test_cache_that_cannot_be_written(tiny, plain, server, cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"in the way")
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("LOUPE_DATA_URL", server.url)
    (tmp_path / "mine.txt").write_bytes(plain)
    server.pages["/text/tiny.txt"] = tiny
    with pytest.raises(DataError, match=r"^The cache .*file/text cannot be written.*set LOUPE_CACHE"):
        fetch("tiny")
    with pytest.raises(DataError, match=r"cache .*file/text cannot be written.*set LOUPE_CACHE"):
        adopt("plain", tmp_path / "mine.txt")
