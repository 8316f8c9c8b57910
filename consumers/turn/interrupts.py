"""How a run leaves a handler early. These are BaseExceptions, so that `except Exception` does not eat them."""


class TurnOver(BaseException):
    """This turn of the run has ended: it waits, has ended, or belongs to another worker.

    Do not catch it. Nothing a handler does from here on is recorded, and every `step.…` raises this again: clean-up
    belongs in a step or in on_failure, not in `finally` or `except BaseException`.
    """

    def __init__(self) -> None:
        super().__init__(self.__doc__)
