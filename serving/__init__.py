"""How a model is run: the local server and the client."""
