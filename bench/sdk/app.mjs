// The functions of `python -m bench.remote` with the official TypeScript SDK: `node app.mjs HOME PORT`.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [home, port] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const { Inngest } = require("inngest");
const { serve } = require("inngest/node");

const inngest = new Inngest({ id: "bench-ts" });
const on = (id, run, options = {}) =>
  inngest.createFunction({ id, triggers: [{ event: `bench-ts/${id}` }], ...options }, run);
async function five({ step }) {
  let sum = 0;
  for (let n = 0; n < 5; n++) sum += await step.run(`s${n}`, () => 1);
  return sum;
}
const functions = [
  on("five", five),
  on("buffered", five, { checkpointing: { bufferedSteps: 10 } }),
  on("now", async ({ event }) => Date.now() - event.data.sent),
  on("asleep", async ({ step }) => step.sleep("nap", "1h")),
  on("slow", async ({ event }) => { await new Promise((done) => setTimeout(done, event.data.seconds * 1000)); }),
];
process.on("SIGTERM", () => process.exit(0));
createServer(serve({ client: inngest, functions })).listen(Number(port));
