"""Detection of large images in tiles."""
