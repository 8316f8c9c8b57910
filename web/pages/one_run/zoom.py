"""Zoom: a closer look at a part of a run's time, by links, by keys, and by dragging over the bars."""

import msgspec
from starlette.datastructures import QueryParams

from stepstream.bus.errors import BadRequest
from stepstream.web.pages.waterfall import WIDTH, Scale, Window

_LONGEST = 15


class Zoom(msgspec.Struct, frozen=True):
    """Where to look next, each as the query of a link; empty where there is nothing further.

    `moments` are places along the bars (0 to 1000) and the moments there (Unix ms), between which time runs evenly:
    what is dragged over is a time by them.
    """

    nearer: str
    wider: str
    earlier: str
    later: str
    is_whole: bool
    moments: tuple[tuple[float, int], ...]


def window_of(asked: QueryParams) -> Window | None:
    """Return the part of the time that is asked for, `from` and `to`, Unix ms; BadRequest for what is none."""
    if "from" not in asked and "to" not in asked:
        return None
    begin, end = (_moment(asked, name) for name in ("from", "to"))
    if begin >= end:
        raise BadRequest(f"from={begin} must be before to={end}")
    return Window(begin, end)


def _moment(asked: QueryParams, name: str) -> int:
    text = asked.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST):
        raise BadRequest(f"{name}={text[:40]!r} must be a moment, Unix ms, as the links of a run's page have it")
    return int(text)


def zoom_of(scale: Scale) -> Zoom:
    """Return where to look next from what a scale shows."""
    shown = (scale.moment(0), scale.moment(WIDTH))
    is_whole = shown[0] <= scale.begin and shown[1] >= scale.finish

    def look(low: float, high: float) -> str:
        begin, end = (min(max(round(scale.moment(place)), scale.begin), scale.finish) for place in (low, high))
        is_other = begin < end and (begin, end) != (round(shown[0]), round(shown[1]))
        return f"?from={begin}&to={end}" if is_other else ""

    quarter, half = WIDTH / 4, WIDTH / 2
    bends = sorted({moment for cut in scale.cuts for moment in cut if shown[0] < moment < shown[1]})
    return Zoom(
        nearer=look(quarter, WIDTH - quarter),
        wider="" if is_whole else look(-half, WIDTH + half),
        earlier="" if shown[0] <= scale.begin else look(-half, half),
        later="" if shown[1] >= scale.finish else look(half, WIDTH + half),
        is_whole=is_whole,
        moments=(
            (0.0, round(shown[0])),
            *((round(scale.at(moment), 2), moment) for moment in bends),
            (float(WIDTH), round(shown[1])),
        ),
    )
