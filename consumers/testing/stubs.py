"""Stubs: what a test has put in place of steps' bodies, by step id."""

from collections.abc import Callable
from typing import Any, Final

from stepstream.bus.errors import ConfigError


class _Nothing:
    """No result was given: None is one, too."""


NOTHING: Final = _Nothing()


class _Stub:
    """One stub: it raises, the first `times` times or always, and else gives its result or calls something."""

    def __init__(self, result: object, raises: Exception | None, times: int | None, call: Any) -> None:
        self.result = result
        self.raises = raises
        self.left = times
        self.call = call

    def body(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called once in place of the step's own body."""
        if self.raises is not None and self.left != 0:
            if self.left is not None:
                self.left -= 1
            return self._raise
        if self.call is not None:
            return self.call
        return own if self.result is NOTHING else self._return

    async def _raise(self, *_: object) -> Any:
        assert self.raises is not None
        raise self.raises.with_traceback(None)

    async def _return(self, *_: object) -> Any:
        return self.result


class StepStubs:
    """The stubs of one harness. One for `charge` is for its repeats, `charge:1` and so on, too."""

    def __init__(self) -> None:
        self._stubs: dict[str, _Stub] = {}
        self._used: set[str] = set()

    def add(self, step: str, result: object, raises: Exception | None, times: int | None, call: Any) -> None:
        """Put a stub in place of a step's body, and of an earlier stub."""
        if call is not None and result is not NOTHING:
            raise ConfigError(f"the stub of step '{step}' has a result and call; give one of them")
        if times is not None and (raises is None or times < 1):
            raise ConfigError(f"the stub of step '{step}' has times={times}; it says how often, from 1 on, it `raises`")
        if raises is None and call is None and result is NOTHING:
            result = None
        self._stubs[step] = _Stub(result, raises, times, call)

    @property
    def unused(self) -> list[str]:
        """Those that no step has asked for: of a step that did not run, or of an id that is misspelt."""
        return sorted(self._stubs.keys() - self._used)

    def covers(self, step: str) -> bool:
        """Whether a step has a stub."""
        return self._name(step) is not None

    def body(self, step: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called for a step that has a stub, once for each attempt."""
        name = self._name(step)
        assert name is not None
        self._used.add(name)
        return self._stubs[name].body(own)

    def _name(self, step: str) -> str | None:
        base, _, number = step.rpartition(":")
        return step if step in self._stubs else base if number.isdecimal() and base in self._stubs else None
