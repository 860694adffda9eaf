"""Frames of animations, documents, videos and cameras, each decoded when it is asked for."""
