"""Cameras: named streams that the server reads by itself, and where their results go."""
