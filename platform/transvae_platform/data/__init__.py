"""Photographs in, fixed-size shards out, batches whose order never changes."""
