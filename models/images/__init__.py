"""Image files to pixels and back: decoding, headers, orientation, color and drawing. Without torch."""
