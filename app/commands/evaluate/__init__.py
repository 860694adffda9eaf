"""`rcnn evaluate`."""
