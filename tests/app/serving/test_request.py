"""The plan of a request: its options over the card's and the settings' defaults."""

from app.schemas.options import DetectOptions
from tests.support.served import Served


async def test_the_deadline_is_the_requests_own_timeout_or_that_of_the_settings(served: Served) -> None:
    service = served.app.state.service
    assert service.plan(DetectOptions(timeout_ms=1500), 10.0).deadline == 11.5
    assert service.plan(DetectOptions(), 10.0).deadline == 10.0 + service.settings.timeout_ms / 1000
