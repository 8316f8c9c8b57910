"""Parts of the page of a run, as plain values: a stack as its reader wants it, who belongs to it, a closer look."""
