"""The checkpoint: the run and its memos. One file per script that changes a run, and what reads them."""
