"""Batches across requests: queue, scheduler and device loops. Knows no HTTP, no torch and no settings."""
