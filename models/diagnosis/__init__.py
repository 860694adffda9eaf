"""Diagnosis: which part of a detector lowers its AP. A check gives numbers, a verdict and a plot."""
