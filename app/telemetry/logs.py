"""How the service logs: one line an event, as text or JSON, with the id of the request it belongs to."""

import logging
import re
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from app.telemetry import tracing

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TEXT = "%(asctime)s %(levelname)-7s %(request_id)s %(name)s: %(message)s"


def chosen_id(sent: str) -> str:
    """The id of a request: the one its client sent, if it is safe to log, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


class RequestIds(logging.Filter):
    """Puts the ids of the current request and of its trace on every record; "-" outside a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record."""
        record.request_id = request_id.get()
        if (span := tracing.current()) is not None:
            record.trace_id = tracing.trace_id(span)
        return True


class JsonLines(JsonFormatter):
    """One JSON object a line; what a record has as `extra` become keys of the object."""

    def __init__(self) -> None:
        super().__init__(
            ("time", "levelname", "name", "request_id", "message"),
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            json_ensure_ascii=False,
            json_default=str,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """The level in lower case."""
        return log_data | {"level": log_data["level"].lower()}

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; the time is UTC, to the millisecond."""
        record.time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        record.__dict__.setdefault("request_id", "-")
        return super().format(record)


def configure_logging(level: str, log_format: Literal["text", "json"]) -> None:
    """Send every logger of the process to stderr in one format, at `level` and above."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter(_TEXT))
    handler.addFilter(RequestIds())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The service itself logs that it listens, is ready and stops; below a warning these libraries add noise.
    for library in ("uvicorn", "httpx", "httpcore", "PIL", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    # It warns of every malformed body; the client gets an error, and the request log has its status.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
