"""What the engine tells the outside: signals, and the log lines made of them."""
