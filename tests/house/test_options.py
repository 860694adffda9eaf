"""A request option is declared once, in app.schemas.options; the client and the command line follow."""

from pathlib import Path

import pytest
from pydantic import Field

from app.commands.shared import option_files
from app.schemas.options import DetectOptions


@pytest.mark.parametrize("path", option_files.files(), ids=lambda path: path.name)
def test_the_generated_options_are_those_of_the_service(path: Path) -> None:
    assert path.read_text() == option_files.files()[path], "run `make options`"


def test_a_new_field_reaches_the_client_and_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithArea(DetectOptions):
        largest_area: float | None = Field(default=None, ge=1, description="Maximum area in px².")

    monkeypatch.setattr(option_files, "DetectOptions", WithArea)
    client, command = option_files.files().values()
    assert '    largest_area: float | None\n    """Maximum area in px²."""\n' in client
    assert "largest_area: Annotated[float | None, Option(min=1, help=" in command
    assert '"Maximum area in px².")] = None' in command
