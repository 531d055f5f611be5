"""The charts of a study, one file per kind; each gives panels of SVG text."""
