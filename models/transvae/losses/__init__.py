"""Terms of the training objective, joined by objective.py."""
