// The functions: scoring, one for each market with its own schedule and time zone, and the cache warmer.
import { cron, eventType, Inngest, staticSchema } from "inngest";
import { jobs, log } from "./jobs.ts";
import { activeUsers, fetchAssetPrices, fetchExchangeRates, score, warm } from "./outside.ts";

const scoringStarted = eventType("overnight/scoring.started", {
  schema: staticSchema<{ correlationId: string; market: string }>(),
});
const scoringCompleted = eventType("overnight/scoring.completed", {
  schema: staticSchema<{ correlationId: string; market: string; scored: number }>(),
});
const warmingStarted = eventType("cache/warming.started", {
  schema: staticSchema<{ correlationId: string; users: string[] }>(),
});
const warmingCompleted = eventType("cache/warming.completed", {
  schema: staticSchema<{ correlationId: string; warmed: number }>(),
});

export const inngest = new Inngest({ id: "investments-planner" });

// An hour and a half after the exchange has closed, on its own clock.
const MARKETS = {
  "overnight-scoring": ["all", process.env.OVERNIGHT_JOB_CRON ?? "0 4 * * *"],
  "overnight-scoring-new-york": ["new-york", "TZ=America/New_York 30 17 * * 1-5"],
  "overnight-scoring-tokyo": ["tokyo", "TZ=Asia/Tokyo 30 16 * * 1-5"],
} as const;

const scorings = Object.entries(MARKETS).map(([id, [market, schedule]]) =>
  inngest.createFunction({ id, retries: 3, triggers: [cron(schedule)] }, async ({ runId, step }) => {
    const { correlationId } = await step.run("setup", async () => {
      const job = jobs.started(runId, market);
      const id = `started-${job.correlationId}`; // done again, it is the same event
      await inngest.send(scoringStarted.create({ correlationId: job.correlationId, market }, { id }));
      log(job.correlationId, "scoring has started", { market });
      return job;
    });
    const rates = await step.run("fetch-exchange-rates", () => fetchExchangeRates(market));
    const prices = await step.run("fetch-asset-prices", () => fetchAssetPrices(market));
    const users = await step.run("get-active-users", () => activeUsers(market));
    const scores = await Promise.all(
      users.map((user) =>
        step.run("score-portfolios", async () => {
          const found = await score(user, rates, prices);
          log(correlationId, "scored", { user, risk: found.risk });
          return found;
        }),
      ),
    );
    await step.sendEvent("trigger-cache-warming", [
      warmingStarted.create({ correlationId, users }),
      scoringCompleted.create({ correlationId, market, scored: scores.length }),
    ]);
    jobs.finished(runId, scores.length); // the same, however often the end is reached
    return { correlationId, scored: scores.length };
  }),
);

const cacheWarmer = inngest.createFunction(
  { id: "cache-warmer", retries: 3, triggers: [warmingStarted] },
  async ({ event, step }) => {
    const { correlationId } = event.data;
    const users = await step.run("get-users-for-warming", () => {
      log(correlationId, "warming has started");
      return event.data.users.filter((user) => !user.endsWith("-cleo")); // she has switched recommendations off
    });
    await step.run("warm-recommendations-cache", () => warm("recommendations", users));
    await step.run("warm-dashboard-cache", () => warm("dashboard", users));
    await step.sendEvent("completed", warmingCompleted.create({ correlationId, warmed: users.length }));
    return users.length;
  },
);

export const functions = [...scorings, cacheWarmer];
