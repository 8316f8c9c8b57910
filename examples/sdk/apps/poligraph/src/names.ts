// What may be started: the groups, the daily round, every script; and the event that starts each.
import { SCRIPTS, type Flags, type Script } from "./scripts.ts";

export type Stage = { step: string; script: Script; limited?: true };

const stage = (script: Script, limited?: true, step: string = script): Stage => ({ step, script, ...(limited && { limited }) });

/** Each group's function, its event, and its steps. */
export const GROUPS: Record<string, { event: string; stages: Stage[] }> = {
  "sync-press": {
    event: "sync/press", stages: [stage("press-rss", undefined, "parse-rss"), stage("press-analysis", true, "ai-analysis")],
  },
  "sync-votes": { event: "sync/votes", stages: [stage("votes-an"), stage("votes-senat")] },
  "sync-legislation": { event: "sync/legislation", stages: [stage("legislation"), stage("legislation-content", true)] },
  "discover-affairs": { event: "discover/affairs", stages: [stage("judilibre", true), stage("reconcile-affairs")] },
  "sync-factchecks": { event: "sync/factchecks", stages: [stage("factchecks", true), stage("classify-themes", true)] },
  "generate-ai": { event: "generate/ai", stages: [stage("summaries-dossiers", true), stage("summaries-scrutins", true)] },
  "index-embeddings": {
    event: "index/embeddings", stages: [stage("embeddings-factchecks", true), stage("embeddings-press", true)],
  },
  "sync-politicians": {
    event: "sync/politicians", stages: [stage("politicians-an"), stage("politicians-senat"), stage("photos")],
  },
  maintenance: { event: "sync/maintenance", stages: [stage("prominence"), stage("publication-status")] },
};

/** The scripts that have a function of their own: one whose event is a group's is run by that. */
export const ALONE = (Object.keys(SCRIPTS) as Script[]).filter((script) => !(`sync-${script}` in GROUPS));

const EVENTS = [...Object.values(GROUPS).map((group) => group.event), "sync/daily", ...ALONE.map((one) => `sync/${one}`)];

/** Return the event that starts a job: of a script the flags are `flags`, of any other they are the data itself. */
export function requested(job: string, flags: Flags, jobId?: string): { name: string; data: Record<string, unknown> } {
  const asked = job.replaceAll(":", "/");
  const name = EVENTS.find((one) => one === asked || one === `sync/${asked}`);
  if (!name) throw new RangeError(`there is no job '${job}'; there are ${EVENTS.join(", ")}`);
  const isScript = ALONE.some((one) => name === `sync/${one}`);
  return { name, data: { ...(isScript ? { flags } : flags), ...(jobId && { jobId }) } };
}

/** Return a flag as it is meant: `--limit=50` is a number, `--force` is true. */
export function flag(word: string): [string, Flags[string]] {
  const [, name, value] = /^--([^=]+)(?:=(.*))?$/.exec(word) ?? [];
  if (!name) throw new RangeError(`'${word}' is no flag; write --name or --name=value`);
  if (value === undefined) return [name, true];
  return [name, /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value];
}
