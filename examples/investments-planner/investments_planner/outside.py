"""Market data, users and caches: stand-ins that answer at once and the same, unless they are told otherwise."""

import hashlib

import msgspec
from stand_ins import outside


class Score(msgspec.Struct):
    """What a portfolio is worth in euros, and how risky it is: 0 to 100."""

    user: str
    euros: float
    risk: int


async def fetch_exchange_rates(market: str) -> dict[str, float]:
    """Return what a unit of each currency is worth in euros."""
    await outside(f"rates/{market}")
    return {"EUR": 1.0, "USD": 0.92, "JPY": 0.0061}


async def fetch_asset_prices(market: str) -> dict[str, float]:
    """Return the prices of a market's assets, in dollars."""
    await outside(f"prices/{market}")
    return {"ACME": 120.0, "GLOBEX": 35.5}


async def active_users(market: str) -> list[str]:
    """Return who holds something in a market."""
    await outside(f"users/{market}")
    return [f"{market}-ada", f"{market}-ben", f"{market}-cleo"]


async def score(user: str, rates: dict[str, float], prices: dict[str, float]) -> Score:
    """Score a user's portfolio."""
    await outside(f"score/{user}")
    holds = hashlib.sha256(user.encode()).digest()
    dollars = sum(price * held for price, held in zip(prices.values(), holds, strict=False))
    return Score(user, round(dollars * rates["USD"], 2), holds[-1] % 101)


async def warm(cache: str, users: list[str]) -> int:
    """Fill a cache for users; return for how many."""
    await outside(f"warm/{cache}")
    return len(users)
