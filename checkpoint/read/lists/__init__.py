"""Lists: runs by filters, events as they came, the names of events; each a page at a time."""
