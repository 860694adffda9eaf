"""A service elsewhere, as the commands with --url meet it."""

from typing import Any

from app.commands import USAGE, CommandFailed
from rcnn_client import Client, ClientError, NotAnAnswer, Refused, Unreachable
from rcnn_client.exchange import Send, unreachable

RETRIES = 10  # of a request that a busy service puts off


class ServiceClient(Client):
    """A client that also asks what else the service has to say, once and without patience."""

    def get(self, path: str) -> Any:
        """The JSON answer of GET `path`; raises ClientError."""
        request = self._http.build_request("GET", path)
        response = self._send(Send(request))
        if isinstance(response, Exception):
            raise unreachable(request, response) from response
        if response.is_error and path != "health":
            raise Refused(response)
        try:
            return response.json()
        except ValueError as error:
            raise NotAnAnswer(f"{response.url} answered, but not in JSON; is it rcnn-serve?") from error

    def check_reachable(self) -> None:
        """Raise Unreachable at once where nobody answers: patience does not mend a wrong address."""
        try:
            self.get("health/live")
        except Unreachable:
            raise
        except ClientError:
            pass  # somebody is there; what they think of images is seen with the first of them


def open_service(url: str, api_key: str | None) -> ServiceClient:
    """A client of the service at `url`; close it, or use `with`."""
    try:
        return ServiceClient(url, api_key=api_key, retries=RETRIES)
    except ValueError as error:
        raise CommandFailed(f"--url: {error}", USAGE) from error
