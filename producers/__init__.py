"""Producers: how events get in: over HTTP, from the command line, by schedule. (From Python: `Bus.send`.)"""
