"""`rcnn detect`."""
