"""What the process that tests.forks forks has done already: all that any command imports, and the scripts' texts."""

import gc

import tests.chaos.app
import tests.forks  # noqa: F401
from stepstream.bus.wire.scripts import registered

for one in registered():
    assert one.text
gc.freeze()  # what stands here is shared with every fork for as long as nobody touches it
