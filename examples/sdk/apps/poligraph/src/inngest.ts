// The durable functions: groups of steps, one function for each script, and the daily round.
import { Inngest } from "inngest";
import { jobs } from "./jobs.ts";
import { ALONE, GROUPS, type Stage } from "./names.ts";
import { DAILY, runScript, type Flags, type Script } from "./scripts.ts";

export const inngest = new Inngest({ id: "poligraph" });

type Data = { jobId?: string; limit?: number; flags?: Flags };

/** A run has failed: say so in its record. */
type Failed = { event: { data: { run_id: string; event: { data?: Data } } }; error: Error };
const onFailure = (id: string) => async ({ event, error }: Failed) => {
  const job = event.data.event.data?.jobId ?? event.data.run_id;
  jobs.start(job, id); // it may have failed before its first step
  jobs.fail(job, error.message);
};

function group(id: string, event: string, stages: Stage[]) {
  return inngest.createFunction(
    { id, retries: 2, concurrency: { limit: 1, key: `'${id}'` }, onFailure: onFailure(id) },
    { event },
    async ({ event, step, runId }) => {
      const data = event.data as Data;
      const job = data.jobId ?? runId;
      const steps: Record<string, number> = {};
      for (const [place, stage] of stages.entries()) {
        const before = Object.values(steps).reduce((sum, one) => sum + one, 0);
        steps[stage.step] = await step.run(stage.step, async () => {
          jobs.start(job, id);
          const found = await runScript(stage.script, stage.limited ? { limit: data.limit ?? 100 } : {});
          jobs.tell(job, Math.floor((100 * (place + 1)) / stages.length), before + found);
          return found;
        });
      }
      const result = { processed: Object.values(steps).reduce((sum, one) => sum + one, 0), steps };
      jobs.complete(job, result.processed, result);
      return result;
    },
  );
}

function scriptFunction(script: Script) {
  return inngest.createFunction(
    { id: script, retries: 2, concurrency: 1, onFailure: onFailure(script) },
    { event: `sync/${script}` },
    async ({ event, step, runId }) => {
      const data = event.data as Data;
      const job = data.jobId ?? runId;
      const processed = await step.run(script, () => {
        jobs.start(job, script);
        return runScript(script, data.flags ?? {});
      });
      jobs.complete(job, processed, { processed });
      return { processed };
    },
  );
}

const daily = inngest.createFunction(
  { id: "sync-daily", retries: 0, concurrency: 1, onFailure: onFailure("sync-daily") },
  [{ cron: "0 5,11,19 * * *" }, { event: "sync/daily" }],
  async ({ event, step, runId, logger }) => {
    const job = (event.data as Data).jobId ?? runId;
    const failures: string[] = [];
    let processed = 0;
    for (const [place, script] of DAILY.entries()) {
      const before = processed;
      try {
        processed += await step.run(script, async () => {
          jobs.start(job, "sync-daily");
          const found = await runScript(script);
          jobs.tell(job, Math.floor((100 * (place + 1)) / DAILY.length), before + found);
          return found;
        });
      } catch (error) {
        failures.push(script);
        logger.warn(`${script} has failed; the rest goes on: ${(error as Error).message}`);
      }
    }
    const result = { total: DAILY.length, succeeded: DAILY.length - failures.length, failed: failures.length, failures };
    jobs.complete(job, processed, result);
    return result;
  },
);

export const functions = [
  ...Object.entries(GROUPS).map(([id, { event, stages }]) => group(id, event, stages)),
  ...ALONE.map(scriptFunction),
  daily,
];
