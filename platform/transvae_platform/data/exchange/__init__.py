"""Other projects' layouts, and pictures to look at."""
