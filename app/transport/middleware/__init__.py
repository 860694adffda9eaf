"""Around every request, in pure ASGI: id and log line, bounds on bytes, allowed hosts."""
