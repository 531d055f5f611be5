"""From bytes to pixels: decoding, geometry, crops."""
