"""A request that names a model which is not loaded: it waits for the load, or learns how to load it.

A load that failed is not tried again by requests until it is due, so that a broken model costs one load in a
while and not one a request.
"""

import asyncio
import math
import time

from app.errors import Loading, ServiceError, UnknownModel
from app.serving.admission import Admission
from app.serving.model import LoadedModel
from app.serving.models.loads import ModelLoads
from app.serving.models.names import candidates
from app.serving.models.registry import ModelRegistry
from app.settings.settings import Settings

CATALOGUE_SECONDS = 1.0  # after which it is read again: wrong names must not cost a file each


class LoadsOnRequest:
    """Models for requests; called on the event loop's thread."""

    def __init__(
        self, settings: Settings, models: ModelRegistry, loads: ModelLoads, admission: Admission
    ) -> None:
        self._on = settings.load_on_request
        self._models = models
        self._loads = loads
        self._admission = admission
        self._names: frozenset[str] = frozenset()  # of the catalogue
        self._read_at = -math.inf

    async def obtain(self, text: str, version: str, deadline: float) -> LoadedModel:
        """The model of a name that is not loaded, once it is; raises what the request is answered with.

        UnknownModel where the catalogue has none or requests load none, Loading where it is not loaded by
        the deadline (monotonic), LoadFailed, Conflict where it does not fit, Overloaded.
        """
        name = await self._catalogue_name(text)
        if name is None or not self._on:
            raise self._unknown(text, name)
        self._loads.failures.check(name)
        expected = self._loads.expected_seconds(name)
        with self._admission.wait_for_load():
            if self._loads.running is None and expected > deadline - time.monotonic():
                self._loads.start_load(name)  # for the next one
                raise _not_in_time(name, expected)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._loaded(name, text, version)
            except TimeoutError as error:
                raise _not_in_time(name, expected) from error

    async def _loaded(self, name: str, text: str, version: str) -> LoadedModel:
        while (found := self._models.find(text, version)) is None:
            task = self._loads.running or self._loads.start_load(name)
            await asyncio.wait({task})
            if task.cancelled():
                raise Loading(f"{name} is not loaded, as the service is stopping", 1.0)
            outcome = task.result()
            if isinstance(outcome, ServiceError) and self._loads.last_name == name:
                raise type(outcome)(outcome.detail, outcome.retry_after)
        return found

    async def _catalogue_name(self, text: str) -> str | None:
        """The name of the catalogue that a text stands for; None where it has none."""
        if time.monotonic() > self._read_at + CATALOGUE_SECONDS:
            self._names = frozenset(await asyncio.to_thread(self._loads.loadable_cards))
            self._read_at = time.monotonic()
        likely = candidates(text, self._models.aliases)
        return next((one.name for one in likely if one.name in self._names), None)

    def _unknown(self, text: str, name: str | None) -> UnknownModel:
        if name is None:
            return self._models.not_loaded(text)
        hint = f"{name} is in the catalogue: an operator can load it with POST /models/{name}/load"
        return self._models.not_loaded(text, hint)


def _not_in_time(name: str, expected: float) -> Loading:
    return Loading(f"{name} is being loaded, longer than the request's time; ask again soon", expected)
