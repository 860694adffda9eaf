"""How the service logs: one line an event, as text or JSON, each with the id of the request it belongs to."""

import json
import logging
import re
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from app.telemetry import tracing

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TEXT = "%(asctime)s %(levelname)-7s %(request_id)s %(name)s: %(message)s"


def chosen_id(sent: str) -> str:
    """The id of a request: the one its client sent, if it is fit for logs, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


class _WithRequestId(logging.Filter):
    """Puts the ids of the request being answered and of its trace on every record; "-" outside a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        if (span := tracing.current.get()) is not None:
            record.trace_id = span.trace_id
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `extra={"fields": {...}}` of a record becomes keys of the object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            **({"trace_id": record.trace_id} if hasattr(record, "trace_id") else {}),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: str, log_format: Literal["text", "json"]) -> None:
    """Send every logger of the process to stderr in one format, at `level` and above."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    handler.addFilter(_WithRequestId())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The service itself says when it listens, is ready and stops; what others say below a warning is noise.
    for chatty in ("uvicorn", "httpx", "httpcore", "PIL", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    # It warns of every malformed body; the client is told, and the access log has the status.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
