// node alone: the functions at /api/inngest, and POST /api/events/NAME, which sends one of the events.
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { serve } from "inngest/node";
import { events } from "./events.ts";
import { functions, inngest } from "./functions.ts";

const handler = serve({ client: inngest, functions });
const port = Number(process.env.PORT ?? 3000);

createServer(async (request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://here");
  if (pathname === "/api/inngest") return handler(request, response);
  const tell = (status: number, answer: object) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  const event = Object.values(events).find((one) => pathname === `/api/events/${one.name}`);
  if (!event || request.method !== "POST") return tell(404, { error: `nothing at ${pathname}` });
  const wanted = event.create(JSON.parse(await text(request)));
  try {
    await wanted.validate();
  } catch (error) {
    return tell(422, { error: (error as Error).message });
  }
  try {
    return tell(202, await inngest.send(wanted));
  } catch (error) {
    return tell(503, { error: (error as Error).message });
  }
}).listen(port, "127.0.0.1", () => console.log(`advert-01: http://127.0.0.1:${port}`));
