"""The connections of `rcnn serve`: uvicorn's protocols with bounds on bytes, time and number."""
