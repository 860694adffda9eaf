"""HTTP in, HTTP out: one file a protocol. What a request means is decided in app/serving/service.py."""
