"""`rcnn diagnose`."""
