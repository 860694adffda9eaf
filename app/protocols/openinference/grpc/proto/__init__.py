"""Code that grpcio-tools made of grpc_service.proto; `make proto` makes it again."""
