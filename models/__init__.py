"""The detector: images in, detections out."""
