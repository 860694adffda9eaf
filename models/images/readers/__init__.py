"""Readers of Pillow, corrected where viewers show a file otherwise: GIF canvas, PNG keys, TIFF samples."""
