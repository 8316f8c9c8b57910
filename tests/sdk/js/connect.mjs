// An application of tests/sdk whose worker connects, in place of being called over HTTP.
// node connect.mjs HOME INSTANCE JOURNAL: HOME has node_modules, JOURNAL gets a line for each thing done.
import { appendFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as after } from "node:timers/promises";

const [home, instance, journal] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const { Inngest, NonRetriableError } = require("inngest");
const { connect } = require("inngest/connect");
const is4 = require("inngest").version.startsWith("4");

const inngest = new Inngest({ id: "wired" });
const note = (line) => appendFileSync(journal, JSON.stringify({ ...line, instance }) + "\n");
const functions = [];
function on(id, options, body) {
  const trigger = { event: `w/${id}` };
  functions.push(
    is4
      ? inngest.createFunction({ id, ...options, triggers: [trigger] }, body)
      : inngest.createFunction({ id, ...options }, trigger, body),
  );
}

on("steps", {}, async ({ event, step, runId }) => {
  const a = await step.run("a", () => (note({ step: "a", run: runId }), event.data.n));
  await step.sleep("nap", "200ms");
  const [b, c] = await Promise.all([step.run("b", () => a + 1), step.run("c", () => a + 2)]);
  return { a, b, c };
});

on("refused", { retries: 3 }, async () => {
  throw new NonRetriableError("never");
});

// The second step goes on until a file is there.
on("long", {}, async ({ event, step, runId }) => {
  const first = await step.run("first", () => (note({ step: "first", run: runId }), instance));
  const second = await step.run("second", async () => {
    note({ step: "second", run: runId });
    while (!existsSync(event.data.until)) await after(50);
    return instance;
  });
  return { first, second };
});

const given = {
  apps: [{ client: inngest, functions }],
  instanceId: instance,
  ...(process.env.CAPACITY ? { maxWorkerConcurrency: Number(process.env.CAPACITY) } : {}),
};
const connection = await connect(given);
note({ up: process.pid, connection: connection.connectionId });
await connection.closed;
note({ closed: process.pid });
