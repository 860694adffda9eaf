"""The stages of detection around an engine: canvas, proposals, postprocess."""
