"""The step that a handler gets has the signatures that the contract promises, which overloads hide from pyright."""

import inspect

import pytest

from stepstream.bus.step import Step
from stepstream.consumers.turn.steps.facade import TurnStep


@pytest.mark.parametrize("name", sorted(Step.__abstractmethods__))
def test_the_facade_takes_what_the_contract_says(name: str) -> None:
    taken, promised = (inspect.signature(getattr(kind, name)).parameters for kind in (TurnStep, Step))
    assert taken == promised
