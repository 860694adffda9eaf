"""The service: admission, one image's way, and the models that serve. Knows no HTTP and no torch."""
