"""The transformer network and the loss networks."""
