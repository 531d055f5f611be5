"""Views: straight lines through chosen points. Useful to look at and to compare with papers, never the headline."""
