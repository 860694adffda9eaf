"""Our own HTTP API, one file for each subject; detection itself is in app/serving."""
