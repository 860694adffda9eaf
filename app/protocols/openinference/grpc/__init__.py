"""The Open Inference Protocol V2 over gRPC; imported only where RCNN_GRPC_PORT asks for it."""
