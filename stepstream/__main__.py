"""`python -m stepstream`."""

from stepstream.bus.cli import main

main()
