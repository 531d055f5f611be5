"""MLflow serves what the journal holds: the only importers of mlflow."""
