"""Evaluation: COCO average precision of any detector on any annotated images."""
