"""`rcnn bench`: `lineage` times the R-CNN family on this machine, `load` a service."""
