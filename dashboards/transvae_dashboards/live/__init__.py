"""The live dashboard: a small server that draws the views of all studies of a home as they are now."""
