"""Other people's residual networks: the loss at every block, without touching the model."""
