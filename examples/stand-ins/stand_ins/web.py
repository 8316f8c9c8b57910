"""The outside world over HTTP, for applications in other languages: `uvicorn --factory stand_ins.web:site --port 8290`.

`POST /ask/opus` answers when the call has met what is told of it: 200, or 503 when it fails. A crash is left to who
asked: `{"crash": true}`, and it ends itself.
"""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stand_ins.trouble import delayed


def site(path: Path | None = None) -> Starlette:
    """Return the site; `path` is the file that tells what happens, by default that of STAND_INS."""

    async def met(request: Request) -> Response:
        call: str = request.path_params["call"]
        told = await delayed(call, path)
        if told.get("crash"):
            return JSONResponse({"crash": True})
        if told.get("fail"):
            return JSONResponse({"error": f"{call} does not answer"}, 503)
        return JSONResponse({})

    return Starlette(routes=[Route("/{call:path}", met, methods=["POST"])])
