// The admin API: POST starts a job: it makes the record, and publishes; the run takes the record over.
import { randomUUID } from "node:crypto";
import { inngest } from "../../../../inngest.ts";
import { jobs } from "../../../../jobs.ts";
import { requested } from "../../../../names.ts";
import type { Flags } from "../../../../scripts.ts";

export async function POST(request: Request): Promise<Response> {
  const { job, flags = {} } = (await request.json()) as { job: string; flags?: Flags };
  const id = randomUUID();
  let event;
  try {
    event = requested(job, flags, id);
  } catch (error) {
    return Response.json({ error: (error as Error).message }, { status: 404 });
  }
  jobs.start(id, job);
  try {
    await inngest.send({ id, ...event });
  } catch (error) {
    jobs.fail(id, `not published: ${(error as Error).message}`);
    return Response.json({ error: "not published", id }, { status: 503 });
  }
  return Response.json({ id }, { status: 202 });
}

export function GET(): Response {
  return Response.json(jobs.all());
}
