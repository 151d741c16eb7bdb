"""How fast SPInet runs and trains, beside PyTorch, ONNX Runtime, OpenVINO and the machine's own limits."""
