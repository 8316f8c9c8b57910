// Job records. A run writes its record as it goes on; each write may be done twice: that changes nothing.
import { Store } from "stand-ins/store";

export type SyncJob = {
  id: string; script: string; status: "RUNNING" | "COMPLETED" | "FAILED"; progress: number; processed: number;
  result: unknown; error: string | null; started: string; completed: string | null;
};

const MOST_ERROR = 2_000;
const store = new Store<Record<string, SyncJob>>(`${process.env.DATA_FOLDER ?? "data"}/jobs.json`, {});
const now = () => new Date().toISOString();

/** End a job that runs: how one has ended stays as it was written first. */
function end(id: string, changes: Partial<SyncJob>): void {
  store.change((all) => {
    const job = all[id];
    if (job?.status === "RUNNING") Object.assign(job, changes, { completed: now() });
  });
}

export const jobs = {
  /** Note that a job runs: a new one, or one that had failed and is run again. */
  start(id: string, script: string): void {
    store.change((all) => {
      if (all[id] && all[id].status !== "FAILED") return;
      const fresh = { status: "RUNNING", progress: 0, processed: 0, result: null, error: null, completed: null } as const;
      all[id] = { id, script, started: all[id]?.started ?? now(), ...fresh };
    });
  },
  /** Note how far a job is. It only goes forward. */
  tell(id: string, progress: number, processed: number): void {
    store.change((all) => {
      const job = all[id];
      if (!job) return;
      job.progress = Math.max(job.progress, progress);
      job.processed = Math.max(job.processed, processed);
    });
  },
  complete(id: string, processed: number, result: unknown): void {
    end(id, { status: "COMPLETED", progress: 100, processed, result });
  },
  fail(id: string, error: string): void {
    end(id, { status: "FAILED", error: error.slice(0, MOST_ERROR) });
  },
  get: (id: string): SyncJob | undefined => store.read()[id],
  all: (): SyncJob[] => Object.values(store.read()),
};
