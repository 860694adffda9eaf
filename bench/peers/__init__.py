"""The other servers around the same model, each as its users write it: one small file a server."""
