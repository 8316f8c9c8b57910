// A stand-in for scripts that fetch votes, feeds and rulings: `node scripts/run.mjs press-rss --limit=50` writes a few
// lines, and a last one that says how many records it has gone through.
import { createHash } from "node:crypto";

const [script, ...flags] = process.argv.slice(2);
console.log(`${script}: begins ${flags.join(" ")}`);
if (process.env.STAND_INS_URL) {
  const answer = await fetch(`${process.env.STAND_INS_URL}/script/${script}`, { method: "POST" });
  if (!answer.ok) {
    console.error(`${script}: ${(await answer.json()).error}`);
    process.exit(1);
  }
}
const found = createHash("sha256").update(script).digest()[0];
const limits = flags.filter((flag) => flag.startsWith("--limit=")).map((flag) => Number(flag.slice("--limit=".length)));
console.log(JSON.stringify({ processed: Math.min(found, ...limits) }));
