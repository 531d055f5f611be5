"""Data sets as they lie on disks and stores: shards, manifest, access, names."""
