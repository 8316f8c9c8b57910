"""Replies: what a worker answers, as an application would over HTTP."""

from stepstream.bus.values import codec
from stepstream.checkpoint.connections.calls import Reply
from stepstream.consumers.remote.protocol import MAX_ANSWER_BYTES
from stepstream.web.connect.messages import Response, Status

_FAILED, _REFUSED = 500, 400
_AS_HTTP = {Status.NOT_COMPLETED: 206, Status.DONE: 200, Status.ERROR: _FAILED}


def reply_of(said: Response) -> Reply:
    """Return an answer of a worker with the status that it would have over HTTP."""
    if len(said.body) > MAX_ANSWER_BYTES:
        told = f"the worker answered {len(said.body)} bytes, at most {MAX_ANSWER_BYTES}: store what is large elsewhere"
        return Reply(
            _FAILED, codec.encode({"name": "output_too_large", "message": told}), said.sdk_version or "connect"
        )
    status = _AS_HTTP.get(Status(said.status) if said.status in set(Status) else Status.ERROR, _FAILED)
    if said.no_retry and said.status == Status.DONE:
        # TypeScript SDKs have no word for an error that is final, and say with it that they are done.
        status = _REFUSED
    return Reply(
        status=status,
        body=said.body,
        sdk=said.sdk_version or "connect",
        version=str(said.request_version) if said.request_version > 0 else "",
        is_final=said.no_retry,
        after=said.retry_after,
    )
