"""Checks of a dataset as a whole: names, coordinates, orientation, whether there is anything to learn."""
