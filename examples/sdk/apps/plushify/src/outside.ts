// The blob store, the image model and the bank of credits: a folder, and stand-ins that may be slow, fail, or crash.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { RetryAfterError } from "inngest";
import { outside, Unavailable } from "stand-ins";

const BLOBS = join(process.env.DATA_FOLDER ?? "data", "blobs");

/** Ask outside; what does not answer is asked again after 1 s, 2 s, 4 s. */
export async function ask(call: string, attempt: number): Promise<void> {
  try {
    await outside(call);
  } catch (error) {
    if (error instanceof Unavailable) throw new RetryAfterError(error.message, `${2 ** attempt}s`, { cause: error });
    throw error;
  }
}

/** Store a blob whole: another name first, then the rename. */
export function put(name: string, content: Buffer): string {
  const path = join(BLOBS, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.part`, content);
  renameSync(`${path}.part`, path);
  return name;
}

export const get = (name: string): Buffer => readFileSync(join(BLOBS, name));

/** Delete the blobs of a folder; return their names. */
export function discard(folder: string): string[] {
  const path = join(BLOBS, folder);
  let found: string[] = [];
  try {
    found = readdirSync(path).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  rmSync(path, { recursive: true, force: true });
  return found;
}
