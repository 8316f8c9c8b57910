// The record of the jobs, and what they log: a line of JSON each, with the job's correlation id.
import { randomUUID } from "node:crypto";
import { Store } from "stand-ins/store";

export type Job = { correlationId: string; runId: string; market: string; startedMs: number; scored: number | null };

const store = new Store<Record<string, Job>>(`${process.env.DATA_FOLDER ?? "data"}/jobs.json`, {});

export const jobs = {
  /** Record a job as started, and return it; done again for one run, it is the same job. */
  started(runId: string, market: string): Job {
    return store.change((all) => {
      all[runId] ??= { correlationId: randomUUID(), runId, market, startedMs: Date.now(), scored: null };
      return all[runId];
    });
  },
  finished(runId: string, scored: number): void {
    store.change((all) => {
      const job = all[runId];
      if (job) job.scored = scored;
    });
  },
  all: (): Job[] => Object.values(store.read()),
};

export function log(correlationId: string, event: string, more: object = {}): void {
  console.log(JSON.stringify({ event, correlationId, ...more }));
}
