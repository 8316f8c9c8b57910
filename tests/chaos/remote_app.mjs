// What runs in the storm over functions behind HTTP, of the official TypeScript SDK v4: every kind of step, and steps that
// are saved while a call is open, one by one and several together. What a function does and returns is the same in remote_app.py.
// node remote_app.mjs HOME PORT JOURNAL GATES: HOME has node_modules; JOURNAL gets a line for each body before it acts, with
// the turn and the worker whose call it belongs to; a body of `gated` that is called for the n-th worker of its run waits for the file GATES/<n>.
import { AsyncLocalStorage } from "node:async_hooks";
import { existsSync, openSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setTimeout as after } from "node:timers/promises";

const [home, port, path, gates] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const { Inngest, NonRetriableError, RetryAfterError } = require("inngest");
const { serve } = require("inngest/node");

const journal = openSync(path, "a"); // what is written at once is there whole, or not at all, whenever this is killed
const turns = new AsyncLocalStorage();
const note = (line) => writeSync(journal, JSON.stringify({ pid: process.pid, at: Date.now(), ...line }) + "\n");

const noted = async (...args) => {
  const answer = await fetch(...args);
  if (answer.status === 409) note({ run: `|${new URL(String(args[0])).pathname.split("/")[3]}`, step: "", what: "refused", ...turns.getStore(), told: await answer.clone().text() });
  return answer;
};
const inngest = new Inngest({ id: "js", fetch: noted });
const functions = [];
function on(id, checkpointing, options, body, more = []) {
  const triggers = options.triggers ?? [{ event: `remote/${id.split("-")[0]}` }, ...more];
  const declared = inngest.createFunction({ id, retries: 20, checkpointing, ...options, triggers }, async (ctx) => {
    const work = async (step, act = () => step) => {
      note({ run: `js-${id}|${ctx.runId}`, step, what: "body", ...turns.getStore() });
      await after(2 + Math.random() * 18);
      return await act();
    };
    return await body(ctx, work);
  });
  functions.push(declared);
  return declared;
}

const kinds = { plain: false, saved: true, buffered: { bufferedSteps: 3, maxInterval: "150ms", maxRuntime: "5s" } };
for (const [kind, checkpointing] of Object.entries(kinds)) {
  on(`three-${kind}`, checkpointing, {}, async ({ event, step }, work) => {
    const n = event.data.n;
    const one = (name) => step.run(name, () => work(name));
    if (n % 3 === 1) return (await Promise.all([one("a"), one("b"), one("c"), step.sleep("nap", "100ms")])).slice(0, 3);
    const found = [await one("a")];
    if (n % 3 === 0) await step.sleep("nap", `${50 + (n % 5) * 50}ms`);
    return [...found, await one("b"), await one("c")];
  });
  on(`gated-${kind}`, checkpointing, {}, async ({ step }, work) => {
    const gate = async () => {
      while (!existsSync(`${gates}/${turns.getStore().nth}`)) await after(20);
      return "b";
    };
    return [await step.run("a", () => work("a")), await step.run("b", () => work("b", gate)), await step.run("c", () => work("c"))];
  });
}

const child = on("child", true, { triggers: [] }, async ({ step }, work) => {
  await step.sleep("nap", "50ms");
  return await step.run("a", () => work("a"));
});
on("crossing", true, {}, async ({ event, step }, work) => {
  const n = event.data.n;
  const [reply, , called, mine] = await Promise.all([
    step.waitForEvent("reply", { event: "remote/reply", timeout: "900s", if: "async.data.n == event.data.n && async.data.of == 'js'" }),
    step.sendEvent("tell", { name: "remote/reply", data: { n, of: "js" } }),
    step.invoke("call", { function: child, data: { n } }),
    step.run("a", () => work("a")),
  ]);
  return [reply ? reply.data.n === n : null, called, mine];
}, [{ event: "remote/reply", if: "false" }]);
on("limited", true, { concurrency: { limit: 2, key: "event.data.k" } }, async ({ event, step }, work) => {
  const first = await step.run("a", () => work("a"));
  if (event.data.n % 2) await step.sleep("nap", "50ms");
  return [first, await step.run("b", () => work("b"))];
});
on("patient", true, { retries: 0 }, async ({ step, attempt }, work) => (await step.run("a", () => work("a")), attempt));
on("failing", false, { onFailure: async ({ event, step }) => (await step.run("told", () => 1), event.data.run_id) },
  async ({ event, step, attempt }, work) => {
    const first = await step.run("a", () => work("a"));
    const second = await step.run("bad", () => work("bad", () => {
      if (event.data.n % 3 === 0) throw new NonRetriableError("never");
      if (event.data.n % 3 === 1 && attempt === 0) throw new RetryAfterError("not yet", "1s");
      return "good";
    }));
    return [first, second];
  });

const owners = {};
const handler = serve({ client: inngest, functions });
createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  request.on = (name, listener) => {
    if (name === "data") setImmediate(listener, body);
    if (name === "end") setImmediate(listener);
    return request;
  };
  if (request.method !== "POST") return await handler(request, response);
  const { fnId, stepId } = Object.fromEntries(new URL(request.url, "http://here").searchParams);
  const { job_id, qi_id } = JSON.parse(body).ctx;
  const [run, turn] = job_id.split(".");
  const whose = (owners[run] ??= []);
  if (!whose.includes(qi_id)) whose.push(qi_id);
  const mine = { turn: Number(turn), owner: qi_id, nth: whose.indexOf(qi_id) + 1 };
  const line = { run: `${fnId}|${run}`, step: stepId, ...mine };
  note({ ...line, what: "called" });
  response.on("finish", () => note({ ...line, what: "answered", status: response.statusCode }));
  return await turns.run(mine, () => handler(request, response));
}).listen(Number(port), "127.0.0.1");
