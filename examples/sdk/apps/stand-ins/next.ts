// In place of Next.js (a hundred megabytes, and a build): its App Router as far as route handlers go. A route.ts exports
// GET, POST and PUT, which are called with a web Request and the parameters of their path, as Next.js calls them.
import { createServer, type IncomingMessage } from "node:http";

type Context = { params: Promise<any> };
// What SDKs return wants Next.js's own request, of which they use what is in every Request.
type RouteHandler = (request: any, context: Context) => Response | Promise<Response>;
export type Route = Partial<Record<"GET" | "POST" | "PUT" | "DELETE", RouteHandler>>;

/** Serve routes by their paths, `api/jobs/[id]`, as the folders below `app/` would be called. */
export function serveRoutes(routes: Record<string, Route>, name: string): void {
  const known = Object.entries(routes).map(([path, route]) => ({ parts: path.split("/"), route }));
  const port = Number(process.env.PORT ?? 3000);
  createServer(async (incoming, outgoing) => {
    const url = new URL(incoming.url ?? "/", `http://${incoming.headers.host}`);
    const asked = url.pathname.split("/").slice(1).map(decodeURIComponent);
    let answer = new Response("not found", { status: 404 });
    for (const { parts, route } of known) {
      const params = matched(parts, asked);
      const handler = route[incoming.method as keyof Route];
      if (params && handler) answer = await handler(requestOf(incoming, url), { params: Promise.resolve(params) });
      else if (params) answer = new Response("not allowed", { status: 405 });
    }
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
    outgoing.end(Buffer.from(await answer.arrayBuffer()));
  }).listen(port, "127.0.0.1", () => console.log(`${name}: http://127.0.0.1:${port}`));
}

function matched(parts: string[], asked: string[]): Record<string, string> | undefined {
  if (parts.length !== asked.length) return undefined;
  const params: Record<string, string> = {};
  for (const [place, part] of parts.entries()) {
    const word = asked[place] ?? "";
    if (part.startsWith("[")) params[part.slice(1, -1)] = word;
    else if (part !== word) return undefined;
  }
  return params;
}

function requestOf(incoming: IncomingMessage, url: URL): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) headers.set(name, String(value));
  const hasBody = incoming.method !== "GET" && incoming.method !== "HEAD";
  const body = hasBody ? (incoming as unknown as ReadableStream) : undefined;
  return new Request(url, { method: incoming.method, headers, body, duplex: "half" } as RequestInit);
}
