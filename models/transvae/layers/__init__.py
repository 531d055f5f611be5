"""Building blocks; one noun per file."""
