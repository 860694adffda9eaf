"""Errors: the tree is complete, and each error says its status, code and headers."""

import pytest

from app import errors
from app.errors import ServiceError, error_classes, errors_markdown, from_image_error, problem
from models.images import decoder

CONTRACT = [
    (400, "invalid_image"),
    (400, "malformed_request"),
    (401, "unauthorized"),
    (403, "forbidden"),
    (403, "foreign_origin"),
    (404, "not_found"),
    (404, "unknown_model"),
    (405, "method_not_allowed"),
    (409, "conflict"),
    (413, "body_too_large"),
    (413, "image_too_large"),
    (415, "unsupported_media_type"),
    (421, "host_not_allowed"),
    (422, "invalid_parameter"),
    (422, "load_failed"),
    (429, "overloaded"),
    (431, "head_too_large"),
    (500, "internal"),
    (503, "draining"),
    (503, "failing"),
    (503, "loading"),
    (504, "deadline_exceeded"),
]


def test_the_errors_are_those_of_the_contract() -> None:
    assert [(kind.status, kind.code) for kind in error_classes()] == CONTRACT


@pytest.mark.parametrize("kind", error_classes())
def test_the_tree_on_top_of_the_module_shows_every_error(kind: type[ServiceError]) -> None:
    [line] = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line]
    assert f"{kind.status} {kind.code} " in line


@pytest.mark.parametrize("kind", error_classes())
def test_a_problem_has_the_members_of_rfc_9457_and_ours(kind: type[ServiceError]) -> None:
    assert problem(kind("what was wrong"), "abc") == {
        "type": f"urn:rcnn-serve:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what was wrong",
        "code": kind.code,
        "request_id": "abc",
    }


@pytest.mark.parametrize("kind", [kind for kind in error_classes() if kind.status in (429, 503)])
@pytest.mark.parametrize(
    ("seconds", "header"), [(None, "1"), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (90, "90")]
)
def test_retry_after_is_in_whole_seconds_and_at_least_one(
    kind: type[ServiceError], seconds: float | None, header: str
) -> None:
    assert kind("later", seconds).headers() == {"Retry-After": header}


@pytest.mark.parametrize("kind", [kind for kind in error_classes() if kind.status not in (429, 503)])
def test_no_other_error_asks_to_retry(kind: type[ServiceError]) -> None:
    assert "Retry-After" not in kind("no").headers()


def test_unauthorized_names_the_scheme() -> None:
    assert errors.Unauthorized("no key").headers() == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (decoder.UnreadableImage("not a picture"), errors.InvalidImage),
        (decoder.OversizedImage("too many pixels"), errors.ImageTooLarge),
        (decoder.ImageError("odd"), errors.InvalidImage),
    ],
)
def test_a_decoder_error_becomes_the_services(raised: decoder.ImageError, kind: type[ServiceError]) -> None:
    error = from_image_error(raised)
    assert type(error) is kind
    assert error.detail == str(raised)


def test_the_table_has_a_line_for_each_error() -> None:
    lines = errors_markdown().splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [str(status) for status, _ in CONTRACT]
    assert [line.split("`")[1] for line in lines] == [code for _, code in CONTRACT]
    assert all(line.count("|") == 4 for line in lines)
