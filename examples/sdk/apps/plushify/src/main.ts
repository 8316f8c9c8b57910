// Express: the actions, and the functions at /api/inngest. Who asks is a header, in place of a login.
import express, { type ErrorRequestHandler, type Request } from "express";
import { serve } from "inngest/express";
import { cancel, NotNow, NotYours, retry, status, submit } from "./actions.ts";
import { functions, inngest } from "./inngest.ts";
import { Refused, shown, studio } from "./studio.ts";

const app = express();
const userOf = (request: Request) => request.header("x-user") ?? "ada";

app.use("/api/inngest", express.json({ limit: "8mb" }), serve({ client: inngest, functions })); // a call has up to 4 MiB
app.post("/api/generations", express.raw({ type: () => true, limit: "3mb" }), async (request, response) => {
  const image = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  response.status(202).json(shown(await submit(userOf(request), request.header("content-type") ?? "", image)));
});
app.get("/api/generations/:id", (request, response) => {
  response.json(shown(status(userOf(request), request.params.id)));
});
app.post("/api/generations/:id/retry", async (request, response) => {
  response.status(202).json(shown(await retry(userOf(request), request.params.id)));
});
app.delete("/api/generations/:id", async (request, response) => {
  await cancel(userOf(request), request.params.id);
  response.status(202).json({});
});
app.get("/api/gallery", (request, response) => {
  response.json(studio.gallery(userOf(request)));
});

const failed: ErrorRequestHandler = (error, _request, response, next) => {
  if (error instanceof Refused) response.status(409).json({ error: error.message });
  else if (error instanceof NotYours) response.status(404).json({ error: "There is no such generation of yours." });
  else if (error instanceof NotNow) response.status(503).json({ error: error.message });
  else next(error);
};
app.use(failed);

const port = Number(process.env.PORT ?? 3000);
app.listen(port, "127.0.0.1", () => console.log(`plushify: http://127.0.0.1:${port}`));
