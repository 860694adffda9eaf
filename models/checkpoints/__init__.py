"""Reads checkpoints of training frameworks as plain data, without running anything in them."""
