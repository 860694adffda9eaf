"""The APIs of other servers over the same service, one file or folder each."""
