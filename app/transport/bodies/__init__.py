"""The bodies of our own routes: images and options, and what was sent in place of an image."""
