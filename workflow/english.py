"""Find the most common faults of our English in pages, chapters and docstrings; `make lint` runs this."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

FAULTS = {
    r"\bfore(see|sees|saw|seen|seeing)\b": "write predict",
    r"(?<!power )(?<!scaling )\blaws?\b(?! of (large|physics|motion))": "write distribution (of a property: identity)",
    r"\bby heart\b": "write memorized",
    r"\basked of\b|\bis asked for\b": "say who needs what",
    r"\bperceptrons?\b": "write MLP",
    r"\bbut for (the|a|an|its|one)\b": "write except for, or excluding",
    r"\bbelongs? into\b": "write belongs in",
    r"\b(a|one) (state|row|token|seed|step|layer) more\b": "write one more ..., or an extra ...",
    r"\b[Mm]ind (the|that)\b": "write note, or be careful with",
    r"\bnothing is (claimed|asked|lost) here\b": "write not tested at this size",
    r"\bbesides\.": "write as well, or too",
    r"\b(goes|go|went) on with\b": "write continues",
    r"\bis (left )?open yet\b|\bnot yet known\b": "write is an open question",
}
_MARKS = re.compile("|".join(f"(?P<f{k}>{fault})" for k, fault in enumerate(FAULTS)))


def texts() -> Iterator[tuple[str, str]]:
    """Each text that people read, with its place."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("data/*/README.md")]:
        if path.name != "CHANGELOG.md":
            yield from (
                (f"{path.relative_to(ROOT)}:{k}", line)
                for k, line in enumerate(path.read_text().splitlines(), 1)
            )
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(ROOT)} cell {cell['id']}", "".join(cell["source"])
    for path in ROOT.glob("lib/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def faults(text: str) -> list[str]:
    """The faults of a text: the words and the advice.

    >>> faults("The law of a sample")
    ["'law': write distribution (of a property: identity)"]
    """
    advice = list(FAULTS.values())
    return [f"{found[0]!r}: {advice[int(found.lastgroup[1:])]}" for found in _MARKS.finditer(text)]


if __name__ == "__main__":
    said = [f"{place}: {fault}" for place, text in texts() for fault in faults(text)]
    sys.exit("\n".join([*said, f"{len(said)} faults of English"]) if said else 0)
