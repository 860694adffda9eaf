"""The Open Inference Protocol (KServe V2, Triton), over HTTP and gRPC."""
