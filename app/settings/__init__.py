"""What can be set: the RCNN_ variables as one type, in parts by subject."""
