"""How a model is run: TensorFlow Serving's files, the local server, and the client."""
