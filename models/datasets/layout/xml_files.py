"""Reading of XML without the entities with which a small file can fill the memory."""

from pathlib import Path
from xml.etree import ElementTree

PARSE_ERRORS = (OSError, ValueError, LookupError, ElementTree.ParseError)


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and rejects a document type: entities can expand a small file to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type (<!DOCTYPE …>), which annotations do not need; remove it")


def parse_xml(path: Path) -> ElementTree.Element:
    """The root element of a file. Raises one of PARSE_ERRORS."""
    parser = ElementTree.XMLParser(target=_WithoutDoctype())  # noqa: S314  # entities are rejected
    parser.feed(path.read_bytes())
    tree = parser.close()
    if not isinstance(tree, ElementTree.Element):
        raise ValueError("it has no root element")
    return tree
