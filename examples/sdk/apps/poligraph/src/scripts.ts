// The scripts: how many minutes each may take, and how one is run: killed, with all its children, at its limit.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { RetryAfterError } from "inngest";

export type Flag = boolean | number | string;
export type Flags = Record<string, Flag>;

export const SCRIPTS = {
  "votes-an": 30, "votes-senat": 30, legislation: 20, "legislation-content": 60, "summaries-dossiers": 60,
  "summaries-scrutins": 60, "press-rss": 10, "press-analysis": 45, judilibre: 20, "reconcile-affairs": 15,
  factchecks: 15, "classify-themes": 45, "embeddings-factchecks": 30, "embeddings-press": 30, prominence: 10,
  "publication-status": 10, "politicians-an": 15, "politicians-senat": 15,
  photos: Number(process.env.PHOTOS_MINUTES ?? 30),
};
export type Script = keyof typeof SCRIPTS;

/** The steps of sync-daily, in the order in which one builds on another. */
export const DAILY = (Object.keys(SCRIPTS) as Script[]).slice(0, 16);

/** Run a script; return how many records it has gone through, as its last line says. */
export async function runScript(script: Script, flags: Flags = {}): Promise<number> {
  const words = Object.entries(flags).filter(([, value]) => value !== false);
  const given = words.map(([name, value]) => (value === true ? `--${name}` : `--${name}=${value}`));
  const child = spawn(process.execPath, ["scripts/run.mjs", script, ...given], { detached: true });
  const limit = SCRIPTS[script] * 60_000;
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    if (child.pid) process.kill(-child.pid, "SIGKILL"); // its group: with all its children
  }, limit);
  try {
    const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
    if (isLate) throw new RetryAfterError(`${script} was killed at its limit of ${SCRIPTS[script]} minutes`, "1s");
    if (code !== 0) throw new RetryAfterError(`${script} ended with ${code}: ${errors}`, "1s");
    return (JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as { processed?: number }).processed ?? 0;
  } finally {
    clearTimeout(timer);
  }
}
