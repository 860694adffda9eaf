"""Several models in one process: what one costs another, and what loads and unloads leave behind."""
