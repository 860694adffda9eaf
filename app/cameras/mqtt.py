"""Results by MQTT: each is published with QoS 1, so the next one is sent when the broker has it."""

import ssl
from typing import Any
from urllib.parse import unquote

from app.cameras.delivery import NotDelivered, Receiver
from app.settings.stream_addresses import StreamAddress

SECONDS = 10.0  # to connect, and for the broker's word that it has a result


class Mqtt:
    """The way to a topic of a broker; one connection, opened again when it is lost."""

    receiver: Receiver = "mqtt"

    def __init__(self, address: StreamAddress, topic: str) -> None:
        self.address = address.public
        self._address = address
        self._topic = topic
        self._client: Any = None  # of aiomqtt, an optional dependency

    async def send(self, body: bytes) -> None:
        """Publish a result; raises NotDelivered."""
        import aiomqtt

        try:
            if self._client is None:
                self._client = self._new_client()
                await self._client.__aenter__()
            await self._client.publish(self._topic, body, qos=1, timeout=SECONDS)
        except (aiomqtt.MqttError, OSError) as error:
            await self.close()
            raise NotDelivered(f"the broker does not take it ({type(error).__name__})") from None

    async def close(self) -> None:
        """End the connection."""
        import aiomqtt

        client, self._client = self._client, None
        if client is not None:
            try:
                await client.__aexit__(None, None, None)
            except aiomqtt.MqttError:
                return  # it is lost already, or never said a word; its socket is closed

    def _new_client(self) -> Any:
        import aiomqtt

        address = self._address
        user, _, password = (address.credentials or "").partition(":")
        return aiomqtt.Client(
            hostname=address.host.strip("[]"),
            port=address.port,
            username=unquote(user) or None,
            password=unquote(password) or None,
            tls_context=ssl.create_default_context() if address.scheme == "mqtts" else None,
            timeout=SECONDS,
            max_queued_outgoing_messages=1,
        )
