"""The model of a fleet: how many replicas hold a p99, checked against the real service."""
