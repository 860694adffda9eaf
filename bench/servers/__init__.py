"""This service beside other servers around the same model: `python -m bench.servers`."""
