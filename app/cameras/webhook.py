"""Results by HTTP POST, each signed: X-Signature-256 is the HMAC of the body, as of GitHub's webhooks."""

import asyncio
import hashlib
import hmac

import httpx

from app.cameras.delivery import NotDelivered, Receiver
from app.settings.stream_addresses import StreamAddress

SECONDS = 10.0  # for an answer; its body is not read


class Webhook:
    """The way to an HTTP receiver. No redirect is followed, and no proxy of the environment used."""

    receiver: Receiver = "webhook"

    def __init__(self, address: StreamAddress, secret: str) -> None:
        self.address = address.public
        self._url = address.full
        self._secret = secret.encode()
        self._client = httpx.AsyncClient(trust_env=False, timeout=SECONDS)

    async def send(self, body: bytes) -> None:
        """POST a result; raises NotDelivered."""
        digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Signature-256": f"sha256={digest}"}
        try:
            async with (
                asyncio.timeout(SECONDS),  # httpx's own is for each part of an answer
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                status = response.status_code
        except (httpx.TimeoutException, TimeoutError):
            raise NotDelivered(f"no answer within {SECONDS:.0f} s") from None
        except httpx.HTTPError as error:  # its text may have the address, and that a secret
            raise NotDelivered(f"it cannot be reached ({type(error).__name__})") from None
        if not httpx.codes.is_success(status):
            raise NotDelivered(f"it answered with {status}")

    async def close(self) -> None:
        """End the connection."""
        await self._client.aclose()
