// The functions of `python -m bench.remote` with the official TypeScript SDK: `node app.mjs HOME PORT`.
import { createRequire } from "module";

const [home, port] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const { Inngest } = require("inngest");
const { serve } = require("inngest/express");
const express = require("express");

const inngest = new Inngest({ id: "bench-ts" });
const on = (id, run) => inngest.createFunction({ id, triggers: [{ event: `bench-ts/${id}` }] }, run);
const functions = [
  on("five", async ({ step }) => {
    let sum = 0;
    for (let n = 0; n < 5; n++) sum += await step.run(`s${n}`, () => 1);
    return sum;
  }),
  on("now", async ({ event }) => Date.now() - event.data.sent),
  on("slow", async ({ event }) => { await new Promise((done) => setTimeout(done, event.data.seconds * 1000)); }),
];
const app = express();
app.use(express.json({ limit: "20mb" }));
app.use("/api/inngest", serve({ client: inngest, functions }));
app.listen(Number(port));
