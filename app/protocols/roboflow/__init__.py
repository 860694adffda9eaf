"""Roboflow's API: inference as `inference_sdk` calls it, its models, and the hosted API's route."""
