"""`rcnn doctor`."""
