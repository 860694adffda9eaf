"""Benchmarks of the image decoder."""
