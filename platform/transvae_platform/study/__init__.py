"""What a study is: its file, its grid of trials, its plan and its journal."""
