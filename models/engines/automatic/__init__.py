"""The precision that `auto` means on OpenVINO: the fastest of those that are proven accurate."""
