"""What bounds the connections of the gRPC server: gRPC's own options, with the reason of each value."""

SECOND = 1000  # gRPC counts in milliseconds

KEEPALIVE_SECONDS = 60  # until a silent connection is asked whether its client is still there
KEEPALIVE_TIMEOUT_SECONDS = 20  # for the reply, also of a client that does not read; then it is closed
IDLE_SECONDS = 120  # without a call; longer than the 60 s of common load balancers, so that they close first
# Then new calls go to a new connection, as balancers need it. Calls of this one go on for the same time: only
# streams are that long, and calls whose client never reads the response, which nothing else ends.
AGE_SECONDS = 3600
HANDSHAKE_SECONDS = 10  # from the connection to its first settings
# Clients may ping each 10 s, the least that gRPC's own ones take; on the way two pings come closer together.
PING_SECONDS = 5
STREAMS = 100  # calls of a connection at a time: the least that RFC 9113 §6.5.2 asks for; others wait there

OPTIONS = (
    # A compressed message is inflated before its length is checked: a small one may fill all memory.
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none but "identity"
    ("grpc.so_reuseport", 0),  # or a second server on the port would silently take half of the calls
    # Without it a call holds 64 KB of a message that is not read yet, with it 4 MB.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_concurrent_streams", STREAMS),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * SECOND),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * SECOND),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * SECOND),  # else a minute, whatever is above
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS * SECOND),
    ("grpc.max_connection_idle_ms", IDLE_SECONDS * SECOND),
    ("grpc.max_connection_age_ms", AGE_SECONDS * SECOND),
    ("grpc.max_connection_age_grace_ms", AGE_SECONDS * SECOND),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * SECOND),
)
