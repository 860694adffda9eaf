"""The structure of each image format: bounds on its parts, and what is dropped before a decoder reads it."""
