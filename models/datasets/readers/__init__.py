"""Readers of further formats: CVAT for images, LabelMe, VIA, and tables in CSV."""
