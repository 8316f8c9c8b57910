// Market data, users and caches: stand-ins that answer at once and the same, unless they are told otherwise.
import { createHash } from "node:crypto";
import { RetryAfterError } from "inngest";
import { outside, Unavailable } from "stand-ins";

export type Score = { user: string; euros: number; risk: number };

async function ask(call: string): Promise<void> {
  try {
    await outside(call);
  } catch (error) {
    if (error instanceof Unavailable) throw new RetryAfterError(error.message, "1s", { cause: error });
    throw error;
  }
}

export async function fetchExchangeRates(market: string): Promise<Record<string, number>> {
  await ask(`rates/${market}`);
  return { EUR: 1, USD: 0.92, JPY: 0.0061 };
}

export async function fetchAssetPrices(market: string): Promise<Record<string, number>> {
  await ask(`prices/${market}`);
  return { ACME: 120, GLOBEX: 35.5 };
}

export async function activeUsers(market: string): Promise<string[]> {
  await ask(`users/${market}`);
  return ["ada", "ben", "cleo"].map((name) => `${market}-${name}`);
}

export async function score(
  user: string, rates: Record<string, number>, prices: Record<string, number>,
): Promise<Score> {
  await ask(`score/${user}`);
  const holds = createHash("sha256").update(user).digest();
  const dollars = Object.values(prices).reduce((sum, price, place) => sum + price * holds.readUInt8(place), 0);
  return { user, euros: Math.round(dollars * (rates.USD ?? 1) * 100) / 100, risk: holds.readUInt8(31) % 101 };
}

export async function warm(cache: string, users: string[]): Promise<number> {
  await ask(`warm/${cache}`);
  return users.length;
}
