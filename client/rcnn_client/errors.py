"""The errors of a request.

ClientError
├── Unreachable    no answer came: the service is stopped, the address wrong, or the time ran out
├── Refused        the service answered with a problem: status, code, detail, request_id, retry_after
└── NotAnAnswer    something answered, but not this service
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


class ClientError(Exception):
    """The service gave no detections; the text says why."""


class Unreachable(ClientError):
    """No answer came: the service is stopped, the address is wrong, or the time ran out."""


class NotAnAnswer(ClientError):
    """Something answered, but not with what the service promises."""


class Refused(ClientError):
    """The service answered with a problem (RFC 9457), or one frame with `problem`; branch on `code`."""

    def __init__(self, response: httpx.Response, problem: Mapping[str, Any] | None = None) -> None:
        self.status = int(problem["status"]) if problem else response.status_code
        problem = problem or json_object(response)
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
        self.request_id = response.headers.get("X-Request-ID", "")
        self.retry_after = retry_after(response)
        super().__init__(f"{self.detail} ({self.status} {self.code})")


def retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds from now, whether a number or a date; None where it is neither."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a response; empty when it is none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
