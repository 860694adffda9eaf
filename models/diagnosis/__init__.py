"""Diagnosis: which part of a detector costs its AP. A check brings numbers, a verdict and a picture."""
