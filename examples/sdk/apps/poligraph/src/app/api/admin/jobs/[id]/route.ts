// Next.js names the folder of a parameter so.
import { jobs } from "../../../../../jobs.ts";

export async function GET(_request: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const found = jobs.get((await params).id);
  return found ? Response.json(found) : Response.json({ error: "there is no such job" }, { status: 404 });
}
