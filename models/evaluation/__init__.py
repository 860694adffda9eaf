"""Evaluation: COCO average precision of a detector on annotated images."""
