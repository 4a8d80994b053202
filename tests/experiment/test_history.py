"""The history of verdicts: a line is added when one changes, and at no other time; releases are told apart."""

import json

import pytest
from toy import CLAIMS

from loupe.experiment import folders
from loupe.experiment.claims import VERDICTS, Claim, Judgement, judge
from loupe.experiment.folders import (
    MissingResultError,
    StoreError,
    at_release,
    history_file,
    read_history,
    record,
)
from loupe.experiment.store import Store

CLAIM = CLAIMS[0]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def add(store, verdict, *, preset="cpu", slug="egno", missing=False):
    record(store, slug, preset, [Judgement(CLAIM, preset, verdict, missing=missing)])


def test_an_entry_is_added_only_when_a_verdict_changes(store):
    assert read_history(store) == []
    for verdict in ("reproduced", "reproduced", "inconclusive", "inconclusive", "reproduced"):
        add(store, verdict)
    assert [one["verdict"] for one in read_history(store)] == ["reproduced", "inconclusive", "reproduced"]
    before = history_file(store).read_bytes(), history_file(store).stat().st_ino
    add(store, "reproduced")
    assert (history_file(store).read_bytes(), history_file(store).stat().st_ino) == before


def test_presets_and_chapters_have_their_own_history(store):
    add(store, "reproduced")
    add(store, "reproduced", preset="gpu")
    add(store, "reproduced", slug="sedd")
    assert [(one["slug"], one["preset"]) for one in read_history(store)] == [
        ("egno", "cpu"), ("egno", "gpu"), ("sedd", "cpu"),
    ]  # fmt: skip


def test_an_entry_says_all_there_is_to_know(store):
    add(store, "partly")
    (entry,) = read_history(store)
    assert tuple(entry) == folders.HISTORY_FIELDS
    assert entry["claim"] == CLAIM.id
    assert entry["version"] == folders.__version__
    assert len(entry["date"]) == len("2026-01-01")
    assert history_file(store).read_text().count("\n") == 3  # one line each, for whoever reads a diff


def test_results_that_are_missing_change_no_verdict(store):
    def gone(results):
        raise MissingResultError("walk is missing.")

    add(store, "reproduced")
    claim = Claim(CLAIM.id, "", "", "", "exact", "", gone, ("cpu",))
    record(store, "egno", "cpu", [judge(claim, "cpu", {})])
    assert [one["verdict"] for one in read_history(store)] == ["reproduced"]


def entries(*pairs):
    one = {"slug": "egno", "preset": "cpu", "claim": "T1"}
    return [
        one | {"verdict": verdict, "date": "2026-01-01", "version": version} for version, verdict in pairs
    ]


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([], None),
        ([("1", "partly")], "partly"),
        ([("1", "partly"), ("1", "reproduced")], "reproduced"),
        ([("1", "partly"), ("2", "reproduced")], "partly"),
        ([("1", "partly"), ("1", "inconclusive"), ("2", "reproduced"), ("2", "partly")], "inconclusive"),
        ([("2", "partly"), ("2", "reproduced")], "partly"),
    ],
)
def test_the_verdict_of_a_release_is_the_last_before_it_or_the_first(pairs, wanted):
    assert at_release(entries(*pairs), "egno", "cpu", "T1", version="2") == wanted
    assert at_release(entries(*pairs), "egno", "gpu", "T1", version="2") is None


GOOD = entries(("1", "partly"))[0]


@pytest.mark.parametrize(
    "content",
    [
        "{", "", "{}", "null", "[1]", "[[]]", json.dumps([GOOD | {"verdict": "proved"}]), json.dumps([GOOD | {"date": 3}]),
        json.dumps([{"slug": "egno"}]), json.dumps([GOOD, GOOD | {"more": "x"}]), "[\udcff]",
    ],
)  # fmt: skip
def test_a_damaged_history_is_one_sentence_and_is_left_alone(content, store):
    history_file(store).parent.mkdir(parents=True)
    history_file(store).write_text(content, errors="surrogateescape")
    for ask in (lambda: read_history(store), lambda: add(store, "partly")):
        with pytest.raises(
            StoreError, match=r"history.json is damaged \(.*\): restore it from git.$"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert history_file(store).read_text(errors="surrogateescape") == content


def test_every_verdict_can_be_recorded(store):
    for verdict in VERDICTS:
        add(store, verdict)
    assert len(read_history(store)) == len(VERDICTS)
