// The models that are asked. A stand-in: it answers at once and the same, unless it is told otherwise.
import { createHash } from "node:crypto";
import { RetryAfterError } from "inngest";
import { outside, Unavailable } from "stand-ins";

export const MODELS = ["sonnet", "opus", "gpt", "gemini"] as const;
export type Model = (typeof MODELS)[number];
export type Answer = { query: string; model: Model; text: string; mentions: number };

export async function ask(model: Model, query: string, brand: string): Promise<Answer> {
  try {
    await outside(`ask/${model}/${query}`);
  } catch (error) {
    if (error instanceof Unavailable) throw new RetryAfterError(error.message, "1s", { cause: error });
    throw error;
  }
  const mentions = createHash("sha256").update(`${model} ${query} ${brand}`).digest().readUInt8(0) % 4;
  const named = mentions ? Array<string>(mentions).fill(brand) : ["others"];
  return { query, model, text: `${query}: ${named.join(", ")}`, mentions };
}
