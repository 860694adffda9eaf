"""The models of this process: their names, loads, releases and memory."""
