"""Metrics on held-out images."""
