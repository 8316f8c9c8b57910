// `npm run trigger -- sync:press --limit=50` starts a job from the command line; `:` and `/` are alike.
import { inngest } from "./inngest.ts";
import { flag, requested } from "./names.ts";

const [job, ...flags] = process.argv.slice(2);
try {
  const { ids } = await inngest.send(requested(job ?? "", Object.fromEntries(flags.map(flag))));
  console.log(`${job} is asked for, as event ${ids[0]}`);
} catch (error) {
  console.error(`poligraph: ${(error as Error).message}`);
  process.exitCode = error instanceof RangeError ? 2 : 1;
}
