"""What benchmarks share: load generator, processes, cards, options, tables."""
