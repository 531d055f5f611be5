"""The project's version, in the one place that the build, the lineage and the command line read."""

__version__ = "0.1.0"
SUBMITTED_WITH = "TRANSVAE_SUBMITTED_WITH"
"""Variable of a job: the versions of the machine that submitted it (`cluster/versions.py`)."""
