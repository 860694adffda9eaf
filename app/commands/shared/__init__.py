"""What several commands share: the console, a client of a service, the tile option."""
