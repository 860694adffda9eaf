"""The screenshots of docs/page.md: all there, small, and shown. `make screenshots` takes them."""

from tests.page.screenshots import FOLDER, MOST_BYTES, NAMES


def test_the_page_of_the_docs_shows_every_screenshot() -> None:
    files = sorted(FOLDER.iterdir())
    assert [file.stem for file in files] == sorted(NAMES)
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    text = (FOLDER.parent / "page.md").read_text()
    assert [name for name in NAMES if f"(screenshots/{name}.webp)" not in text] == []
