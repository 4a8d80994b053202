"""The check of English finds each fault and leaves good sentences alone."""

import importlib.util

import pytest

from loupe.experiment.folders import project_root

_spec = importlib.util.spec_from_file_location("english", project_root() / "workflow" / "english.py")
english = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(english)

# A sentence with the fault, and a good one with nearly the same words.
PAIRS = (
    ("The network foresees the end.", "The network predicts the end before it comes."),
    ("The law of a token is uniform.", "A power law, a scaling law, and the law of large numbers."),
    ("It learns the text by heart.", "The heart of the method."),
    ("A value that is asked for is missing.", "Positions that are asked, and tokens that are not."),
    ("The network is told the noise.", "The two cannot be told apart, nor told from noise."),
    ("A row that knows nothing.", "A model knows the past, as far as we know."),
    ("Two perceptrons in a row.", "See ``loupe.networks.perceptron`` for the MLP."),
    ("A hook that measures.", "The argument ``hooks`` takes callbacks."),
    ("All systems but for the worst.", "It is fast, but for large n it runs out of memory."),
    ("This belongs into the ledger.", "This belongs in the ledger."),
    ("The mask is one state more.", "One more state: the mask; one step is more expensive."),
    ("Mind the units.", "Keep the units in mind."),
    ("Nothing more, and nothing is claimed here.", "Nothing is claimed without an interval."),
    ("It is slower besides.", "Besides speed, memory matters."),
    ("The caller goes on with the rest.", "The run goes on, with two callbacks."),
    ("This is left open yet.", "This is an open question."),
    ("They agree to the bit.", "They agree bit for bit; compare A to B."),
    ("Draw them anew.", "Draw them again."),
    ("A band that is none.", "The band, or None if there is none."),
)


def test_every_fault_has_a_pair():
    assert len(PAIRS) == len(english.FAULTS)


@pytest.mark.parametrize(
    ("bad", "good", "advice"), [(*p, a) for p, a in zip(PAIRS, english.FAULTS.values(), strict=True)]
)
def test_a_fault_is_found_and_a_good_sentence_is_not(bad, good, advice):
    assert [fault.partition(": ")[2] for fault in english.faults(bad)] == [advice]
    assert english.faults(good) == []


def test_messages_of_methods_are_left_alone(tmp_path, monkeypatch):
    """Stored results depend on them; docstrings and comments count everywhere."""
    monkeypatch.setattr(english, "ROOT", tmp_path)
    source = '"""A law."""\n# drawn anew\nMESSAGE = "the law must sum to 1"\n'
    for room, count in (("metrics", 2), ("publishing", 3)):
        path = tmp_path / "lib" / "loupe" / room / "module.py"
        path.parent.mkdir(parents=True)
        path.write_text(source)
        assert sum(len(english.faults(text)) for _, text in english._code_texts(path)) == count
