"""The model of a fleet: how many replicas hold a p99, validated against the real service."""
