"""How long tests wait for a moment that must come: one number, generous, so that no test fails for a slow machine.

A test that passes never waits so long, and one that fails may take its time. A test claims an order or a cause, not
seconds; where seconds are the claim, they are those of a clock that the test sets.
"""

PATIENT_S = 100.0
"""For one moment: something is said, stored, ended, or a process has ended."""
FOR_EVER_S = 3_600.0
"""What a body takes that is to be ended by something else: longer than anyone is patient."""
MOST_S, CHAOS_MOST_S = 2 * PATIENT_S, 6 * PATIENT_S
"""For a whole test, and for one that kills processes: the end of what hangs."""
