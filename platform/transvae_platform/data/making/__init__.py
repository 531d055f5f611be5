"""How data sets come to be: work that any process may do, again if need be."""
