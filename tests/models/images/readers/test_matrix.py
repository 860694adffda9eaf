"""Each cell of the decoder matrix equals OpenCV or libvips, or is refused with a reason, as the page says."""

import pytest

from tests.house.doc_tables import DOCS, table_pattern
from tests.support.data.matrix_table import Outcome, matrix_markdown, outcomes

VAGUE = "damaged, cut short"  # what is said of a file that is valid is a reason


@pytest.fixture(scope="module")
def found() -> list[Outcome]:
    return list(outcomes())


def test_every_cell_is_right_or_refused(found: list[Outcome]) -> None:
    assert [each for each in found if not each.is_right or VAGUE in each.reason] == []
    assert sum(1 for each in found if each.equal) > 400


def test_both_decoders_are_compared_with(found: list[Outcome]) -> None:
    for name in ("OpenCV", "libvips"):
        assert sum(1 for each in found if name in each.equal) > 250, name


def test_the_page_has_this_matrix(found: list[Outcome]) -> None:
    written = table_pattern("matrix").findall((DOCS / "images.md").read_text())
    assert written == [matrix_markdown(found) + "\n"]
