"""What is outside: a mail server, a model, a printer of PDFs, other people's webhooks. Stand-ins, all of them."""

import hashlib
import hmac

import msgspec
from stand_ins import outside


async def send_mail(to: str, subject: str, body: str) -> str:
    """Send a mail; return its id."""
    await outside("mail")
    return hashlib.sha256(f"{to}\n{subject}\n{body}".encode()).hexdigest()[:12]


async def outline(goal: str, budget_cents: int) -> list[str]:
    """Ask a model for the headings of a strategy."""
    await outside("model/outline")
    return [f"Why {goal}", f"How, for {budget_cents / 100:.2f}", "By when"]


async def write(heading: str) -> str:
    """Ask a model for a paragraph."""
    await outside(f"model/write/{heading}")
    return f"{heading}: it depends."


async def print_pdf(document_id: str, paper: str) -> str:
    """Print a document; return where the file is."""
    await outside("pdf")
    return f"exports/{document_id}-{paper}.pdf"


def signature(payload: dict[str, str], key: str | None) -> str:
    """Return what proves that a payload comes from us; empty without a key."""
    text = msgspec.json.encode(payload, order="deterministic")
    return hmac.new(key.encode(), text, "sha256").hexdigest() if key else ""


async def post(url: str, payload: dict[str, str], signed: str) -> int:
    """Post to a webhook; return the status."""
    await outside(f"webhook/{url}")
    return 202 if payload and (signed or url.startswith("http://localhost")) else 400
