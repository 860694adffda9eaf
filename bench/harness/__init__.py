"""Shared by the benchmarks: measuring loop, load generator, processes, cards, options, tables."""
