"""What a GPU can do and what keeps it from doing it: engine, upload, HTTP, rivals, and the host's limit."""
