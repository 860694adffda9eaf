"""One batch on its device: the thread that runs it, eagerly or as a recorded CUDA graph."""
