"""CORS: which pages of other sites may call the service and read its responses, errors too."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

EXPOSED = (
    *("X-Request-ID", "X-Model", "X-Model-Version", "Server-Timing", "Retry-After"),
    *("Allow", "WWW-Authenticate", "traceresponse"),
)
"""What pages may read of a response, beside the headers that they always may."""

MAX_AGE_SECONDS = 7200  # of the response to a preflight; Chromium keeps none longer


class Cors(CORSMiddleware):
    """Starlette's, for all methods and headers; without credentials, as keys are in headers of the page."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=MAX_AGE_SECONDS,
        )
