// The application of tests/sdk/test_realtime.py for the TypeScript SDKs: it publishes, and listens as a page does.
// node --experimental-websocket realtime.mjs HOME PORT: HOME has node_modules.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const [home, port] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const { Inngest } = require("inngest");
const { serve } = require("inngest/node");
const is4 = require("inngest").version.startsWith("4");
const { channel, topic, getSubscriptionToken, subscribe } = require(is4 ? "inngest/realtime" : "@inngest/realtime");
const middleware = is4 ? [] : [require("@inngest/realtime/middleware").realtimeMiddleware()];
const inngest = new Inngest({ id: "realtime", middleware });

const named = (name) => is4
  ? channel({ name, topics: { state: {}, text: {} } })
  : channel(name).addTopic(topic("state")).addTopic(topic("text"))();
const asStep = ({ step, publish }, id, shop, of, data) =>
  is4 ? step.realtime.publish(id, shop[of], data) : publish(shop[of](data));
const within = ({ publish }, shop, of, data) => is4 ? inngest.realtime.publish(shop[of], data) : publish(shop[of](data));

async function tell(ctx) {
  const { step, event } = ctx;
  const shop = named(event.data.channel);
  await asStep(ctx, "tell", shop, "state", { at: "begun", text: "Zürich ✓" });
  await step.run("work", async () => void (await within(ctx, shop, "state", "in a step")));
  if (event.data.streams) await step.run("stream", async () => void (await within(ctx, shop, "text", ReadableStream.from(["a", "b", "ü"].map((one) => Buffer.from(one))))));
  return "told";
}
const trigger = { event: "r/tell" };
const functions = [is4
  ? inngest.createFunction({ id: "tell", retries: 0, triggers: [trigger] }, tell)
  : inngest.createFunction({ id: "tell", retries: 0 }, trigger, tell)];

const ears = [];
async function listen({ channel, topics }) {
  const ear = { heard: [], waiting: [], closed: false };
  const told = () => ear.waiting.splice(0).forEach((go) => go());
  const token = await getSubscriptionToken(inngest, { channel, topics });
  const coming = await subscribe({ ...token, app: inngest });
  (async () => {
    for await (const message of coming) {
      ear.heard.push(message);
      told();
    }
    ear.closed = true;
    told();
  })();
  return { id: ears.push(ear) - 1 };
}
async function heard({ id, count, closed }) {
  const ear = ears[id];
  while (ear.heard.length < count || (closed && !ear.closed)) await new Promise((go) => ear.waiting.push(go));
  return ear.heard;
}

const doors = {
  "/listen": listen,
  "/heard": heard,
  "/token": ({ channel, topics }) => getSubscriptionToken(inngest, { channel, topics }),
  "/publish": async ({ channel, topic, data }) => is4
    ? inngest.realtime.publish(named(channel)[topic], data)
    : inngest["inngestApi"].publish({ channel, topics: [topic] }, data),
  "/tee": ({ channel, pieces }) => inngest["inngestApi"].checkpointStream({
    runId: channel, body: ReadableStream.from(pieces.map((one) => Buffer.from(one))),
  }),
  "/redirect": async ({ channel }) => inngest["inngestApi"].getRealtimeStreamRedirect(
    (await getSubscriptionToken(inngest, { channel, topics: ["$stream"] })).key),
};
const handler = serve({ client: inngest, functions });
createServer(async (request, response) => {
  const door = doors[request.url];
  if (!door) return handler(request, response);
  try {
    response.end(JSON.stringify((await door(JSON.parse(await text(request)))) ?? null));
  } catch (error) {
    response.writeHead(500).end(JSON.stringify({ error: String(error?.message ?? error) }));
  }
}).listen(Number(port), "127.0.0.1");
