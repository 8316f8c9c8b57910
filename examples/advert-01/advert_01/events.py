"""The events: each has a type, so what does not fit is refused where it is sent, and by the type checker before."""

from typing import Literal

from stepstream import EventData


class HelloWorld(EventData, name="test/hello.world"):
    """Somebody says hello."""

    message: str


class EmailSend(EventData, name="email/send"):
    """A mail is to be sent."""

    to: str
    subject: str
    body: str


class StrategyGenerate(EventData, name="strategy/generate", rename="camel"):
    """A strategy is wanted for a client."""

    client_id: str
    goal: str
    budget_cents: int


class ExportPdf(EventData, name="export/pdf", rename="camel"):
    """A document is wanted as PDF."""

    document_id: str
    paper: Literal["a4", "letter"] = "a4"


class WebhookDeliver(EventData, name="webhook/deliver"):
    """Somebody's webhook is to be told of something."""

    url: str
    payload: dict[str, str]
