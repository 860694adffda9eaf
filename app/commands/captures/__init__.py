"""`rcnn captures`: what the service kept for labelling."""
