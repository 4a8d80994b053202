"""The catalog: complete, consistent, and light to import."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

from loupe.data import CATALOG, verify
from loupe.data.door import READERS

ENTRIES = list(CATALOG.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_says_what_a_user_must_know(entry):
    assert CATALOG[entry.name] is entry
    assert entry.kind in {"images", "graph", "points", "trajectories", "series", "text"}
    for text in (entry.title, entry.license, entry.citation, entry.source_note):
        assert text.strip()
    assert entry.homepage.startswith("http")
    assert entry.used_by
    assert entry.built_in == (not entry.files and entry.public is None)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_files_have_the_layout_of_a_mirror_and_a_digest(entry):
    for file in entry.files:
        assert re.fullmatch(r"[a-z0-9_]+/[A-Za-z0-9_.]+", file.path)
        assert re.fullmatch("sha256:[0-9a-f]{64}", file.digest)
        assert file.size > 0
    for file in entry.public.files if entry.public else ():
        assert file.urls
        assert all(url.startswith("https://") for url in file.urls)
        if file.digest is None:
            assert "digest" in entry.source_note
        else:
            assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.digest)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_readers_and_converters_exist(entry):
    module, _, function = READERS[entry.name].partition(":")
    assert callable(getattr(import_module(f"loupe.data.{module}"), function))
    if entry.public and entry.public.converter:
        assert callable(getattr(import_module("loupe.data.converters"), entry.public.converter))
    if entry.public and not entry.public.files:
        assert entry.public.by_hand


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_whoever_has_a_network_has_a_way(entry):
    addresses = entry.public is not None or all(file.urls for file in entry.files)
    assert entry.built_in or addresses or "LOUPE_DATA_URL" in entry.source_note


def test_restricted_text_has_no_address():
    for name in ("ptb", "zs_ptb"):
        assert CATALOG[name].public is None
        assert not any(file.urls for file in CATALOG[name].files)


def test_molecules_are_never_called_by_another_sets_name():
    for name in ("ethanol", "aspirin", "malonaldehyde"):
        assert "MD17" not in CATALOG[name].title
        assert "Not MD17" in CATALOG[name].source_note


def test_listing_the_catalog_imports_nothing_heavy():
    code = (
        "import sys, loupe.data\n"
        "for name in loupe.data.CATALOG: loupe.data.locate(name)\n"
        "heavy = {'numpy', 'torch', 'pooch', 'requests', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def sizes_in(root):
    files = [path for path in root.glob("*/*") if path.name not in ("README.md", "SHA256SUMS")]
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in files}


def test_every_file_of_the_mirror_is_in_the_catalog(mirror):
    listed = {file.path: file.size for entry in ENTRIES for file in entry.files}
    assert sizes_in(mirror) == listed


def test_every_digest_is_that_of_the_box(box):
    boxed = [entry for entry in ENTRIES if entry.in_box]
    checks = [check for entry in boxed for check in verify(entry.name)]
    assert {(check.outcome, check.where) for check in checks} == {("ok", "box")}
    listed = {file.path: file.size for entry in boxed for file in entry.boxed}
    assert sizes_in(box) == listed
    assert sum(listed.values()) < 30e6
    for folder in {path.partition("/")[0] for path in listed}:
        text = (box / folder / "README.md").read_text()
        digests = [
            file.digest[7:] for entry in boxed for file in entry.boxed if file.path.startswith(f"{folder}/")
        ]
        assert "Terms:" in text or "| terms |" in text
        assert [digest for digest in digests if digest not in text] == []


def test_what_may_not_be_redistributed_is_not_in_the_box():
    assert not any(CATALOG[name].in_box for name in ("cifar10", "ptb", "zs_ptb"))


def test_every_digest_is_that_of_the_mirror(mirror):
    # Some sets have only the form that their authors publish, which no mirror holds.
    checks = [check for check in verify() if CATALOG[check.name].files or check.where == "built in"]
    assert {check.outcome for check in checks} == {"ok"}
    assert sum(check.where == "mirror" for check in checks) == sum(len(entry.files) for entry in ENTRIES)
