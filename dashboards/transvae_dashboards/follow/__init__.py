"""Reading studies as they grow: journals from where they were left, curves as columns, attempts as spans of time."""
