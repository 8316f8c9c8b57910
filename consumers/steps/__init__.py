"""Steps: one file for each kind of step a turn can take."""
