"""Images that the model is unsure of, kept with their detections, to be labelled and trained on."""
