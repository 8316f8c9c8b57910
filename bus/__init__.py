"""What users declare and send: functions, steps, events, limits; and, in `wire`, all that knows Redis."""
