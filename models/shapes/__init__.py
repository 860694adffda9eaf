"""The bundled demo model `shapes`: its scenes, training and evaluation."""
