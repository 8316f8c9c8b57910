"""What goes out of the engine: signals, and the logs made of them."""
