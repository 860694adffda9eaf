"""Checks of what the service uses of this machine: the cache folder, ports, extras, proxies."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from app.commands.doctor.check import Check, failed, ok, warning
from app.settings.cache_folder import why_unwritable
from app.settings.settings import Settings

GB = 1 << 30
LITTLE = GB
"""Free bytes of the disk below which a model may not fit beside its conversion."""


def check_cache(settings: Settings) -> Check:
    """The folder for fetched weights."""
    folder = settings.cache_dir
    if reason := why_unwritable(folder):
        advice = "set RCNN_CACHE_DIR to a folder that can be written, or no weights can be fetched"
        return warning("cache", f"{folder}: {reason}", advice)
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(disk).free
    text = f"{folder}, {free / GB:.1f} GB free"
    if free < LITTLE:
        return warning("cache", text, "free some space, or set RCNN_CACHE_DIR to a folder on another disk")
    return ok("cache", text)


def check_ports(settings: Settings) -> Iterator[Check]:
    """The ports, and the extras that the settings need."""
    from app.server import check_grpc, check_tracing, read_certificate

    yield _check_listener(settings)
    for name, check, wanted in (
        ("gRPC", check_grpc, settings.grpc_port),
        ("traces", check_tracing, settings.otlp_endpoint),
        ("TLS", read_certificate, settings.tls_cert),
    ):
        try:
            check(settings)
        except OSError as error:
            yield failed(name, error)
            continue
        if wanted:
            yield ok(name, f"{wanted}")


def _check_listener(settings: Settings) -> Check:
    """Binds the address, but not where that would replace the socket of a server that still loads."""
    from app.server import bind_listener, stale_socket

    try:
        if (stale := stale_socket(settings)) is not None:
            text = f"{stale} is the socket of a server that has ended or still loads"
            return warning("port", text, "a server that is started now replaces it")
        listener = bind_listener(settings)
        listener.close()
        return ok("port", f"{listener.address} is free")
    except OSError as error:
        return failed("port", error, "or end the program that listens there; it may be this service")


def check_proxy() -> Check:
    """The proxies that downloads and clients on this machine use, without their passwords."""
    proxies = {scheme: urlsplit(address) for scheme, address in getproxies().items() if scheme != "no"}
    if not proxies:
        return ok("proxy", "none is set")
    text = ", ".join(f"{scheme} by {at.hostname}:{at.port or 80}" for scheme, at in sorted(proxies.items()))
    if proxy_bypass("127.0.0.1"):
        return ok("proxy", f"{text}; not for this machine")
    advice = (
        "set NO_PROXY=127.0.0.1,localhost: else programs here ask the proxy for a service on this machine"
    )
    return warning("proxy", text, advice)
