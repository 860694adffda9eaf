"""What an answer says about its time, and where its wait ends in a trace."""

import time

from app.batching.item import Answered
from app.serving.model import Inferred
from app.serving.preparation import Ready
from app.serving.request import Plan, Timings
from app.telemetry import tracing


def timings_of(ready: Ready, answered: Answered[Inferred], plan: Plan) -> Timings:
    """The parts of a request's time so far, in milliseconds."""
    post = answered.result.postprocess
    inference = max(0.0, answered.ran - post)
    seconds = (ready.seconds, answered.queued, inference, post, time.monotonic() - plan.started)
    return Timings(*(value * 1000 for value in seconds))


def end_wait(waiting: tracing.Span, answered: Answered[Inferred]) -> None:
    """The wait ended as the batch began, which is another request's span as well."""
    if answered.result.batch is not None:
        waiting.link(answered.result.batch)
    waiting.end(seconds=answered.queued)
