"""The page of messages quotes the code, and names every error."""

import ast
import re
from functools import cache

from app.errors import errors_markdown
from tests.support.served import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()


@cache
def texts() -> str:
    """Every text in the code; what is filled in is `…`."""
    found = []
    for folder in ("app", "models", "client/rcnn_client"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found += [text for node in ast.walk(tree) if (text := text_of(node))]
    return "\n".join(found)


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def rows() -> list[str]:
    """The first cell of every row."""
    cells = re.findall(r"^\| (.+?) \| ", PAGE, re.MULTILINE)
    return [cell for cell in cells if cell not in ("Message", "What you see", "---")]


def test_messages_are_those_of_the_code() -> None:
    quoted = [cell.strip("`") for cell in rows() if cell.startswith("`")]
    assert len(quoted) > 30
    for message in quoted:
        for part in re.split("…", message):
            assert part.strip("; :") in texts(), message


def test_titles_are_those_of_the_code() -> None:
    for cell in rows():
        for title in re.findall(r"\*([^*]+)\*", cell) if cell.startswith("the title") else ():
            assert title in texts(), title


def test_every_error_is_explained() -> None:
    for code in re.findall(r"^\| \d+ \| `(\w+)`", errors_markdown(), re.MULTILINE):
        assert f"`{code}`" in PAGE, code
