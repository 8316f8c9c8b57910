"""One run: found by its id, its steps, its log, what keeps it, the runs that belong to it, and its recording."""
