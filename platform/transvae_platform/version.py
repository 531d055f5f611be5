"""The project's version, in the one place that the build, the lineage and the command line read."""

__version__ = "0.1.0"
