"""The service: admission, the pipeline of an image, and the models that serve. Knows no HTTP and no torch."""
