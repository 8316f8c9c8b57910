// What somebody can do: submit a photo, ask how it is, cancel it, try again, look at the gallery. Who asks is known already.
import { randomUUID } from "node:crypto";
import { inngest } from "./inngest.ts";
import { askedBy, Refused, studio, type Generation } from "./studio.ts";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 2 * 1024 * 1024; // as base64 it fits into an event, which holds 3 MiB

/** There is no such generation, or it is somebody else's: who asks is not told which. */
export class NotYours extends Error {}
/** It cannot be asked for now. */
export class NotNow extends Error {}

export async function submit(user: string, imageType: string, image: Buffer): Promise<Generation> {
  if (!TYPES.includes(imageType)) throw new Refused(`Please choose a PNG, JPEG or WebP image, not ${imageType || "nothing"}.`);
  if (!image.length || image.length > MOST_BYTES) throw new Refused("Please choose an image of at most 2 MB.");
  const made = studio.begin(randomUUID(), user, imageType, image.toString("base64"));
  try {
    await askFor(made);
  } catch (error) {
    studio.withdraw(made.id);
    throw error;
  }
  return made;
}

export async function retry(user: string, id: string): Promise<Generation> {
  status(user, id);
  const again = studio.beginAgain(id, user);
  try {
    await askFor(again);
  } catch (error) {
    studio.fail(id, askedBy(again), "could not be tried again");
    throw error;
  }
  return again;
}

export async function cancel(user: string, id: string): Promise<void> {
  status(user, id);
  await inngest.send({ name: "plushie/generate.cancelled", data: { generationId: id } });
}

export function status(user: string, id: string): Generation {
  const found = studio.get(id);
  if (found?.user !== user) throw new NotYours(id);
  return found;
}

async function askFor(wanted: Generation): Promise<void> {
  const { id: generationId, user: userId, imageData, imageType } = wanted;
  try {
    // The id makes it idempotent: what is sent twice, because the first answer was lost, runs once.
    const data = { generationId, userId, imageData, imageType };
    await inngest.send({ id: askedBy(wanted), name: "plushie/generate.requested", data });
  } catch (error) {
    throw new NotNow("Plushies cannot be made right now. Please try again in a minute.", { cause: error });
  }
}
