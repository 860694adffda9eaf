"""The socket of the server: bound at the start, so that a wrong address fails before a model is loaded."""

import errno
import logging
import socket
from pathlib import Path

BACKLOG = 2048  # connections the kernel holds while the loop is busy; clients beyond it retry by themselves
logger = logging.getLogger(__name__)


class Listener:
    """A socket that has its address from the start, and takes connections when it is opened."""

    def __init__(self, host: str, port: int, uds: Path | None, scheme: str = "http") -> None:
        """`uds`: a Unix socket in place of host and port. Raises OSError, which names the setting."""
        self._uds = uds
        if uds is not None:
            self.socket, self.address = bind_unix(uds), f"unix:{uds}"
            self._file = _identity(uds)
            return
        self.socket = bind(host, port, "RCNN_PORT")
        shown = f"[{host}]" if self.socket.family == socket.AF_INET6 else host
        self.address = f"{scheme}://{shown}:{self.socket.getsockname()[1]}"

    def open(self) -> None:
        """Take connections; raises OSError if another server was faster, or replaced the Unix socket."""
        if self._uds is not None and _identity(self._uds) != self._file:
            raise OSError(
                f"cannot listen on {self.address}: another server has replaced it, or it is removed"
            )
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:
            raise OSError(f"cannot listen on {self.address}: {error.strerror}") from error
        logger.info("listening on %s", self.address)

    def close(self) -> None:
        """Give the address back; the Unix socket of another server stays."""
        if self._uds is not None and _identity(self._uds) == self._file:
            self._uds.unlink(missing_ok=True)
        self.socket.close()


def bind(host: str, port: int, variable: str) -> socket.socket:
    """A socket with this address; raises OSError, which names the setting to change."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections of the server before may still be closing; one that listens has the address to itself.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another RCNN_HOST or {variable}"
        ) from error
    return listener


def is_stale(path: Path) -> bool:
    """Whether there is a Unix socket on which nobody listens: its server has ended, or still loads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return path.is_socket() and client.connect_ex(str(path)) == errno.ECONNREFUSED


def bind_unix(path: Path) -> socket.socket:
    """A Unix socket that all users may write to; raises OSError, also while another server listens there.

    Its folder says who can reach it. The socket of a server that is gone is replaced, and that of one that
    does not listen yet: clients cannot tell them apart. `Listener.open` of that one then fails.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if is_stale(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o666)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {path}: {error.strerror}; choose another RCNN_UDS") from error
    return listener


def _identity(path: Path) -> tuple[int, ...]:
    """Which file this is, () for none; a number of an inode may be used again for a later one."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns
