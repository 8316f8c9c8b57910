"""Producers: how events get in: over HTTP and from the command line. (From Python: `Bus.send`.)"""
