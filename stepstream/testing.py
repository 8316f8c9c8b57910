"""What tests of functions need: `from stepstream.testing import Harness`.

The pytest plugin is installed with Stepstream: async tests that use the harness need no marker and no setting.
"""

from stepstream.consumers.testing.harness import Harness
from stepstream.consumers.testing.seen import Steps

__all__ = ["Harness", "Steps"]
