"""Ray moves the work: with data/making/on_ray.py the only importers of ray."""
