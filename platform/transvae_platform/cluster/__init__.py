"""Ray moves the work: with data/ingest.py the only importers of ray."""
