// Asks for collections, and answers at once: the route never runs one itself.
import { randomUUID } from "node:crypto";
import { collections } from "../../../collections.ts";
import { inngest } from "../../../inngest.ts";
import { MODELS, type Model } from "../../../models.ts";

export async function POST(request: Request): Promise<Response> {
  const wanted = (await request.json()) as Record<string, unknown>;
  const errors = wrong(wanted);
  if (errors.length) return Response.json({ errors }, { status: 422 });
  const { brand, queries, models } = wanted as { brand: string; queries: string[]; models: Model[] };
  const id = randomUUID();
  collections.begin(id, brand);
  try {
    await inngest.send({
      id, name: "collection.start",
      data: { collection_id: id, brand, queries: [...new Set(queries)], models: [...new Set(models)] },
    });
  } catch (error) {
    collections.withdraw(id);
    return Response.json({ error: `not asked for: ${(error as Error).message}` }, { status: 503 });
  }
  return Response.json({ id }, { status: 202 });
}

export function GET(): Response {
  return Response.json(collections.all());
}

function wrong(wanted: Record<string, unknown>): { field: string; reason: string }[] {
  const isLine = (one: unknown) => typeof one === "string" && one.length > 0 && one.length <= 200;
  const errors: { field: string; reason: string }[] = [];
  if (!isLine(wanted.brand)) errors.push({ field: "brand", reason: "must be text of 1 to 200 characters" });
  const queries = wanted.queries;
  if (!Array.isArray(queries) || !queries.length || queries.length > 20 || !queries.every(isLine))
    errors.push({ field: "queries", reason: "must be 1 to 20 lines of text" });
  const models = wanted.models;
  if (!Array.isArray(models) || !models.length || !models.every((one) => MODELS.includes(one)))
    errors.push({ field: "models", reason: `must be some of ${MODELS.join(", ")}` });
  return errors;
}
