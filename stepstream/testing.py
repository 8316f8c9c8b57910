"""What tests of functions need: `from stepstream.testing import Harness`.

The pytest plugin is installed with Stepstream: async tests that use the harness need no marker and no setting.
"""

from stepstream.checkpoint.read.run.recording import Recording
from stepstream.consumers.testing.harness import Harness
from stepstream.consumers.testing.replay import Replayed, recordings, replay
from stepstream.consumers.testing.seen import Steps

__all__ = ["Harness", "Recording", "Replayed", "Steps", "recordings", "replay"]
