"""The training loop: plain PyTorch that needs neither Ray nor MLflow."""
