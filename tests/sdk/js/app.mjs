// The application of tests/sdk for the TypeScript SDKs: one function for each operation and each option.
// node app.mjs HOME PORT JOURNAL: HOME has node_modules, JOURNAL gets a line for each call and for each thing done.
// What a function does and returns is the same in py/app.py.
import { appendFileSync, existsSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setTimeout as after } from "node:timers/promises";

const [home, port, journal] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const note = (line) => appendFileSync(journal, JSON.stringify(line) + "\n");

// Each operation that the SDK tells of: in answers, and in what it saves while a call is open.
function noteOps(text, run) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return;
  }
  const ops = [found?.steps ?? found].flat().filter((one) => one?.op);
  if (ops.length) note({ ops: ops.map(({ op, opts }) => (opts?.type ? `${op} ${opts.type}` : op)), run });
}
const plainFetch = globalThis.fetch;
globalThis.fetch = (url, init) => {
  if (String(url).includes("/v1/checkpoint/")) noteOps(init.body, String(url).split("/").at(-2));
  return plainFetch(url, init);
};

const { Inngest, NonRetriableError, RetryAfterError, experiment, fetch, openai, referenceFunction } = require("inngest");
const { serve } = require("inngest/node");
const is4 = require("inngest").version.startsWith("4");

const inngest = new Inngest({ id: "matrix" });
const streaming = new Inngest({ id: "streaming" });

function declare(client, id, triggers, options, body) {
  const several = [triggers].flat();
  return is4
    ? client.createFunction({ id, ...options, triggers: several }, body)
    : client.createFunction({ id, ...options }, several.length === 1 ? several[0] : several, body);
}
const functions = [];
function on(id, options, body, triggers = { event: `t/${id}` }) {
  const declared = declare(inngest, id, triggers, options, body);
  functions.push(declared);
  return declared;
}
const done = (fn, step, ctx, more = {}) => note({ fn, step, run: ctx.runId, attempt: ctx.attempt, ...more });
// Two that meet: each waits until the other has begun.
const meetings = {};
async function meet(name, count = 2) {
  const meeting = (meetings[name] ??= Promise.withResolvers?.() ?? makeMeeting());
  meeting.count = (meeting.count ?? 0) + 1;
  if (meeting.count >= count) meeting.resolve(true);
  return await Promise.race([meeting.promise, after(60_000, false, { ref: false })]);
}
function makeMeeting() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}

// -- steps ------------------------------------------------------------------------------------------------------------

on("steps", {}, async (ctx) => {
  const { event, step } = ctx;
  const a = await step.run("a", () => (done("steps", "a", ctx), { n: event.data.n, text: "Zürich ✓", list: [1, 2.5, null] }));
  const none = await step.run("none", () => {});
  const same = [];
  for (const n of [0, 1, 2]) same.push(await step.run("same", () => (done("steps", `same${n}`, ctx), n)));
  return { a, none: none ?? null, same };
});

on("caught", { retries: 0 }, async (ctx) => {
  try {
    await ctx.step.run("bad", () => {
      done("caught", "bad", ctx);
      throw new TypeError("x is undefined");
    });
  } catch (error) {
    return await ctx.step.run("mend", () => `caught: ${error.message}`);
  }
});

on("later", { retries: 2 }, async (ctx) => {
  return await ctx.step.run("flaky", () => {
    done("later", "flaky", ctx);
    if (ctx.attempt === 0) throw new RetryAfterError("not yet", 1_000);
    return ctx.attempt;
  });
});

on("backoff", { retries: 1 }, async (ctx) => {
  await ctx.step.run("flaky", () => {
    done("backoff", "flaky", ctx, { at: Date.now() });
    throw new Error("try me later");
  });
});

on("for-good", { retries: 4 }, async (ctx) => {
  await ctx.step.run("bad", () => {
    done("for-good", "bad", ctx);
    throw new NonRetriableError("never");
  });
});

on("between", { retries: 2 }, async (ctx) => {
  const a = await ctx.step.run("a", () => (done("between", "a", ctx), 1));
  if (ctx.attempt === 0) throw new RetryAfterError("not yet", 1_000);
  return { a, attempt: ctx.attempt };
});

on("fails", {
  retries: 0,
  onFailure: async (ctx) => {
    const { event, step } = ctx;
    return await step.run("told", () => {
      const { function_id, run_id, error, event: original } = event.data;
      return { function_id, run_id, message: error.message, n: original.data.n };
    });
  },
}, async () => {
  throw new Error("boom");
});

// -- several at once --------------------------------------------------------------------------------------------------

on("parallel", {}, async (ctx) => {
  const { step, runId } = ctx;
  const met = await Promise.all(["p", "q"].map((one) => step.run(one, async () => (done("parallel", one, ctx), meet(runId)))));
  const sum = await step.run("sum", () => met.filter(Boolean).length);
  return { sum, after: await step.run("after", () => "after") };
});

on("mixed", {}, async ({ step }) => {
  const [ran, slept, got, invoked] = await Promise.all([
    step.run("ran", () => "ran"),
    step.sleep("nap", "200ms"),
    step.waitForEvent("go", { event: "t/mixed.go", timeout: "1h" }),
    step.invoke("call", { function: child, data: { n: 4 } }),
  ]);
  return { ran, slept: slept ?? null, got: got.data, invoked };
}, [{ event: "t/mixed" }, { event: "t/mixed.go", if: "false" }]);

on("race", {}, async (ctx) => {
  const { step, runId, group } = ctx;
  const both = () => Promise.race([
    step.run("slow", async () => (await meet(runId), "slow")),
    step.run("fast", () => "fast"),
  ]);
  const won = await (is4 ? group.parallel({ mode: "race" }, both) : both());
  await step.run("after", async () => (done("race", "after", ctx), await meet(runId)));
  return won;
});

// -- waiting ----------------------------------------------------------------------------------------------------------

on("sleep", {}, async ({ step, event }) => {
  await step.sleep("nap", "1s");
  await step.sleepUntil("until", new Date(event.data.until));
  return "awake";
});

on("wait", {}, async ({ step }) => {
  const got = await step.waitForEvent("answer", {
    event: "t/answer", timeout: "1h", if: "event.data.id == async.data.id",
  });
  return got.data;
}, [{ event: "t/wait" }, { event: "t/answer", if: "false" }]);

on("wait-match", {}, async ({ step }) => {
  const got = await step.waitForEvent("answer", { event: "t/match", timeout: "1h", match: "data.id" });
  return got.data;
}, [{ event: "t/wait-match" }, { event: "t/match", if: "false" }]);

on("wait-timeout", {}, async ({ step }) => {
  return { got: await step.waitForEvent("never", { event: "t/never", timeout: "1s" }) };
}, [{ event: "t/wait-timeout" }, { event: "t/never" }]);

const child = on("child", {}, async ({ event, step }) => step.run("double", () => event.data.n * 2));
const childFails = on("child-fails", { retries: 0 }, async () => {
  throw new NonRetriableError("child is broken");
});
const childSleeps = on("child-sleeps", {}, async ({ step }) => step.sleep("long", "1h"));

on("invoke", {}, async ({ step }) => step.invoke("call", { function: child, data: { n: 21 } }));
on("invoke-fails", { retries: 0 }, async ({ step }) => caught(() => step.invoke("call", { function: childFails, data: {} })));
on("invoke-timeout", { retries: 0 }, async ({ step }) =>
  caught(() => step.invoke("call", { function: childSleeps, data: {}, timeout: "1s" })));
on("invoke-unknown", { retries: 0 }, async ({ step }) =>
  caught(() => step.invoke("call", { function: referenceFunction({ functionId: "nobody" }), data: {} })));
async function caught(call) {
  try {
    return { returned: await call() };
  } catch (error) {
    return { caught: error.message };
  }
}

on("send", {}, async ({ step, event }) => {
  const { ids } = await step.sendEvent("tell", [1, 2].map((n) => ({ name: "t/sent", data: { n, of: event.data.of } })));
  return ids.length;
});
on("sent", {}, async ({ event }) => event.data);

on("signal", {}, async ({ step, event }) => {
  const got = await step.waitForSignal("wait", {
    signal: event.data.signal, timeout: event.data.timeout ?? "1h", onConflict: event.data.conflict ?? "fail",
  });
  return got ? got.data : null;
});
on("signaller", {}, async ({ step, event }) => {
  await step.sendSignal("tell", { signal: event.data.signal, data: { n: 9 } });
});

// -- what the bus calls -----------------------------------------------------------------------------------------------

on("fetch", { retries: 0 }, async ({ event }) => {
  const answer = await fetch(event.data.url, { method: "POST", body: JSON.stringify({ n: 1 }), headers: { "x-mine": "yes" } });
  return { status: answer.status, body: await answer.json() };
});
on("infer", { retries: 0 }, async ({ step, event }) => {
  const model = openai({ model: "small", apiKey: "secret", baseUrl: event.data.url });
  const answer = await step.ai.infer("ask", { model, body: { messages: [{ role: "user", content: "hello" }] } });
  return answer.choices[0].message.content;
});
if (is4) {
  const slow = new Set();
  on("hand-over", { checkpointing: { maxRuntime: "500ms", bufferedSteps: 2, maxInterval: "1s" } }, async (ctx) => {
    const { step, runId } = ctx;
    const found = [];
    for (const n of [0, 1, 2]) found.push(await step.run(`slow ${n}`, async () => (done("hand-over", n, ctx), n)));
    if (!slow.has(runId)) {
      slow.add(runId);
      await after(1_500);
    }
    return [...found, await step.run("last", () => 3)];
  });
  on("experiment", {}, async ({ step, group }) => {
    const { result, variant } = await group.experiment("which", {
      variants: { old: () => step.run("old", () => 1), new: () => step.run("new", () => 2) },
      select: experiment.fixed("new"),
    });
    return { result, variant };
  });
}
on("wrap", {}, async ({ step }) => step.ai.wrap("model", async (text) => `${text}!`, "hello"));

// -- options ----------------------------------------------------------------------------------------------------------

const record = (id) => async (ctx) => {
  const { step, event } = ctx;
  await step.run("work", async () => {
    done(id, "begin", ctx, { data: event.data, at: Date.now() });
    if (event.data.meet) await meet(event.data.meet);
    while (event.data.hold && existsSync(event.data.hold)) await after(20);
    await after(event.data.ms ?? 0);
    done(id, "end", ctx, { data: event.data, at: Date.now() });
  });
  return event.data;
};
on("concurrency", { concurrency: { limit: 1, key: "event.data.k" } }, record("concurrency"));
on("env-a", { concurrency: [{ limit: 1, scope: "env", key: '"one"' }] }, record("env"));
on("env-b", { concurrency: [{ limit: 1, scope: "env", key: '"one"' }] }, record("env"));
on("account", { concurrency: [{ limit: 1, scope: "account", key: '"all"' }, { limit: 2, scope: "fn" }] }, record("account"));
on("throttle", { throttle: { limit: 1, period: "1s", burst: 1, key: "event.data.k" } }, record("throttle"));
on("rate", { rateLimit: { limit: 1, period: "1m", key: "event.data.k" } }, record("rate"));
on("debounce", { debounce: { period: "1s", key: "event.data.k", timeout: "2s" } }, record("debounce"));
on("batch", { batchEvents: { maxSize: 3, timeout: "1s", key: "event.data.k", if: "event.data.k != 'now'" } }, async ({ events }) => events.map((one) => one.data.n));
on("priority", { concurrency: 1, priority: { run: "event.data.p" } }, record("priority"));
on("skip", { singleton: { mode: "skip", key: "event.data.k" } }, async ({ step }) => step.sleep("nap", "1h"));
on("replace", { singleton: { mode: "cancel" } }, async ({ step }) => step.sleep("nap", "1h"));
on("once", { idempotency: "event.data.k" }, record("once"));
on("start-by", { concurrency: 1, timeouts: { start: "3s" } }, record("start-by"));
on("finish-by", { timeouts: { finish: "1s" } }, async ({ step }) => step.sleep("nap", "1h"));
on("cancel-on", { cancelOn: [{ event: "t/stop", if: "async.data.id == event.data.id" }] },
  async ({ step }) => step.sleep("nap", "1h"));
on("cancel-match", { cancelOn: [{ event: "t/match-stop", match: "data.id" }] }, async ({ step }) => step.sleep("nap", "1h"));
on("cancel-soon", { cancelOn: [{ event: "t/soon", timeout: "1s" }] }, async ({ step }) => step.sleep("nap", "1h"));
if (is4) on("each-year", {}, async () => {}, { cron: "0 0 1 1 *", jitter: "1m" });
on("each-minute", {}, async ({ event }) => event, { cron: "TZ=Europe/Paris * * * * *" });
on("wild", {}, async ({ event }) => event.name, { event: "t/wild/*" });
on("if", {}, async ({ event }) => event.data, { event: "t/if", if: "event.data.ok == true" });
on("two", {}, async ({ event }) => event.name, [{ event: "t/two.a" }, { event: "t/two.b" }]);

on("large", {}, async ({ step }) => {
  let size = 0;
  for (const n of [0, 1, 2, 3, 4, 5]) size += (await step.run(`part ${n}`, () => "x".repeat(1_000_000))).length;
  await step.sleep("nap", "100ms");
  return { size, attempt: await step.run("last", () => "done") };
});

const streamed = [
  declare(streaming, "steps", { event: "s/steps" }, {}, async ({ step }) => {
    const a = await step.run("a", async () => (await after(100), "a"));
    return a + (await step.run("b", () => "b"));
  }),
];

// -- serving ----------------------------------------------------------------------------------------------------------

const handlers = {
  "/api/inngest": serve({ client: inngest, functions }),
  "/api/streaming": serve({ client: streaming, functions: streamed, streaming: is4 ? true : "force" }),
};
createServer((request, response) => {
  const url = new URL(request.url, "http://here");
  const handler = handlers[url.pathname];
  if (!handler) return response.writeHead(404).end();
  if (request.method === "POST") {
    const line = { call: url.searchParams.get("fnId"), step: url.searchParams.get("stepId"), run: request.headers["x-run-id"] };
    const parts = [];
    for (const name of ["write", "end"]) {
      const plain = response[name].bind(response);
      response[name] = (part, ...more) => {
        if (typeof part === "string" || part instanceof Uint8Array) parts.push(Buffer.from(part));
        return plain(part, ...more);
      };
    }
    response.on("finish", () => noteOps(Buffer.concat(parts).toString(), line.run));
    response.on("finish", () => note({ ...line, status: response.statusCode, version: request.headers["x-inngest-req-version"] }));
  }
  return handler(request, response);
}).listen(Number(port), "127.0.0.1", () => note({ up: process.pid }));
