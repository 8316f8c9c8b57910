"""The functions, one for each event. Run them with `bus dev advert_01.functions:app`."""

import contextlib
from collections.abc import AsyncGenerator

import msgspec

from advert_01.events import EmailSend, ExportPdf, HelloWorld, StrategyGenerate, WebhookDeliver
from advert_01.keys import Keys, keys_of
from advert_01.outside import outline, post, print_pdf, send_mail, signature, write
from stepstream import Bus, Context, Step


@contextlib.asynccontextmanager
async def keys() -> AsyncGenerator[Keys]:
    """Read the keys once a worker, before it takes work: they are `ctx.state`."""
    yield keys_of()


app = Bus("advert-01", lifespan=keys)

MAIL_WITHIN = "30s"


class Greeting(msgspec.Struct):
    """What hello-world returns."""

    greeting: str


class Strategy(msgspec.Struct):
    """A strategy, a paragraph for each heading."""

    client_id: str
    paragraphs: list[str]


@app.function("hello-world", on=HelloWorld)
async def hello_world(ctx: Context[HelloWorld, Keys], step: Step) -> Greeting:
    """Log the message, wait a second without holding a worker, and greet."""
    message = ctx.event.data.message

    def log_message() -> None:
        ctx.logger.info("hello", message=message)

    await step.run("log-message", log_message)
    await step.sleep("wait-a-moment", "1s")
    return Greeting(f"Hello, {message}!")


@app.function("send-email", on=EmailSend, retries=5)
async def send_email(ctx: Context[EmailSend, Keys], step: Step) -> str:
    """Send one mail."""
    mail = ctx.event.data
    return await step.run("send", send_mail, mail.to, mail.subject, mail.body, timeout=MAIL_WITHIN)


@app.function("generate-strategy", on=StrategyGenerate, retries=3)
async def generate_strategy(ctx: Context[StrategyGenerate, Keys], step: Step) -> Strategy:
    """Ask a model for headings, then for a paragraph each."""
    wanted = ctx.event.data
    headings = await step.run("outline", outline, wanted.goal, wanted.budget_cents)
    paragraphs = [await step.run(f"write {heading}", write, heading) for heading in headings]
    return Strategy(wanted.client_id, paragraphs)


@app.function("export-pdf", on=ExportPdf)
async def export_pdf(ctx: Context[ExportPdf, Keys], step: Step) -> str:
    """Print one document."""
    return await step.run("print", print_pdf, ctx.event.data.document_id, ctx.event.data.paper, timeout="2m")


@app.function("deliver-webhook", on=WebhookDeliver, retries=8)
async def deliver_webhook(ctx: Context[WebhookDeliver, Keys], step: Step) -> int:
    """Post what is to be told, signed with the key, if there is one."""
    told = ctx.event.data
    return await step.run("post", post, told.url, told.payload, signature(told.payload, ctx.state.signing))
