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
    r"(?<!power )(?<!scaling )(?<!`)\blaws?\b(?! :)(?! of (large|physics|motion))": "write distribution",
    r"\bby heart\b": "write memorized",
    r"\basked of\b|\b(is|are) asked for\b": "say who needs what",
    r"\b(is|are|was|were) (not )?told\b(?! (apart|from))": "say what it takes as input",
    r"\b[Kk]nows? (no|nothing)\b": "write does not depend on, or has no",
    r"(?<!\.)\bperceptrons?\b": "write MLP",
    r"\bhooks? that\b|\b[Aa] hook\b": "write callback",
    r"\bbut for (the|a|an|its|one)\b": "write except for, or excluding",
    r"\bbelongs? into\b": "write belongs in",
    r"\b(a|one) (state|row|token|seed|step|layer) more\b": "write one more ..., or an extra ...",
    r"\b[Mm]ind (the|that)\b": "write note, or be careful with",
    r"\bnothing is (claimed|asked|lost) here\b": "write not tested at this size",
    r"\bbesides\.": "write as well, or too",
    r"\b(goes|go|went|going) on with\b": "write continues",
    r"\bis (left )?open yet\b|\bnot yet known\b": "write is an open question",
    r"\bto the (same )?bits?\b": "write bit for bit",
    r"\banew\b": "write again",
    r"\b(that|which) (is|are) none\b": "write invalid, or say what is wrong",
}
_MARKS = re.compile("|".join(f"(?P<f{k}>{fault})" for k, fault in enumerate(FAULTS)))

METHODS = ("data", "diffusion", "dynamics", "geometry", "metrics", "networks", "topology", "training")


def texts() -> Iterator[tuple[str, str]]:
    """Each text that people read, with its place."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("data/*/README.md")]:
        if path.name != "CHANGELOG.md":
            for k, line in enumerate(path.read_text().splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{k}", line
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(ROOT)} cell {cell['id']}", "".join(cell["source"])
    for path in ROOT.glob("lib/**/*.py"):
        yield from _code_texts(path)


def _code_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Docstrings, comments and strings; in methods no other strings, since stored results depend on them."""
    place, source = path.relative_to(ROOT), path.read_text()
    for k, line in enumerate(source.splitlines(), 1):
        yield f"{place}:{k}", line.partition("# ")[2]
    kind = ast.Expr if path.relative_to(ROOT / "lib" / "loupe").parts[0] in METHODS else ast.Constant
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kind) and isinstance(text := getattr(node.value, "value", node.value), str):
            yield f"{place}:{node.lineno}", text


def faults(text: str) -> list[str]:
    """The faults of a text: the words and the advice.

    >>> faults("The law of a sample")
    ["'law': write distribution"]
    """
    advice = list(FAULTS.values())
    return [f"{found[0]!r}: {advice[int(found.lastgroup[1:])]}" for found in _MARKS.finditer(text)]


if __name__ == "__main__":
    said = [f"{place}: {fault}" for place, text in texts() for fault in faults(text)]
    sys.exit("\n".join([*said, f"{len(said)} faults of English"]) if said else 0)
