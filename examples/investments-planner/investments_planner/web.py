"""The web application: the jobs, the status page under /bus, and the functions at /api/inngest.

Run it with `uvicorn investments_planner.web:web`.
"""

import contextlib
from collections.abc import AsyncGenerator
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from investments_planner.functions import SCORINGS, app, cache_warmer
from investments_planner.jobs import Jobs, opened
from stepstream import mount, serve


@contextlib.asynccontextmanager
async def lifespan(_web: Starlette) -> AsyncGenerator[dict[str, Jobs]]:
    """Open what requests need."""
    async with opened() as jobs:
        yield {"jobs": jobs}


async def page(request: Request) -> HTMLResponse:
    """Show the latest jobs, each with its run."""
    jobs: Jobs = request.state.jobs
    rows = [
        f'<li><a href="bus/runs/{escape(job.run_id)}">{escape(job.market)}</a> '
        f"{'scoring …' if job.scored is None else f'{job.scored} portfolios scored'} "
        f"<small>{escape(job.correlation_id)}</small></li>"
        for job in await jobs.latest()
    ]
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>investments planner</title>"
        "<style>body { font: 16px/1.6 system-ui; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }</style>"
        f"<h1>Overnight scoring</h1><ul>{''.join(rows) or '<li>nothing yet</li>'}</ul>"
        "<p><a href='bus/'>all runs</a></p>"
    )


web = Starlette(routes=[Route("/", page)], lifespan=lifespan)
mount(web, "/bus", serve(app))
mount(web, "/api/inngest", serve(app, functions=[*SCORINGS, cache_warmer]))
