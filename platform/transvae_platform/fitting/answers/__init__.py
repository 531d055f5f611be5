"""Answers to requests: a table of runs and a question in, one JSON document per fit out."""
