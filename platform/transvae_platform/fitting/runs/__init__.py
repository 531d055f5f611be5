"""Tables of runs: reading them, computing columns, choosing rows, and naming everything that must not be fitted."""
