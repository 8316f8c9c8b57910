// The durable function: five steps from a photo to a plushie, and what cleans up after one that failed.
import { EventSchemas, type GetStepTools, Inngest } from "inngest";
import { ask, discard, get, put } from "./outside.ts";
import { studio } from "./studio.ts";

type Asked = { generationId: string; userId: string; imageData: string; imageType: string };
type Events = {
  "plushie/generate.requested": { data: Asked };
  "plushie/generate.cancelled": { data: { generationId: string } };
};

export const inngest = new Inngest({ id: "plushify", schemas: new EventSchemas().fromRecord<Events>() });

/** A generation has failed: say so, and delete the blobs that exist. No credit was taken, so none is given back. */
async function cleanUp(
  step: GetStepTools<typeof inngest>, asked: Asked, event: string | undefined, run: string, why: string,
): Promise<string[]> {
  await step.run("mark-failed", () => studio.fail(asked.generationId, event, why));
  const deleted = await step.run("delete-blobs", () => discard(`${asked.generationId}/${run}`));
  console.log(JSON.stringify({ failed: asked.generationId, why, deleted }));
  return deleted;
}

const generate = inngest.createFunction(
  {
    id: "generate-plushie",
    retries: 3,
    concurrency: { limit: 5, key: "event.data.userId" }, // five of a user's at once, the rest in line
    cancelOn: [{ event: "plushie/generate.cancelled", match: "data.generationId" }],
    onFailure: async ({ event, error, step }) => {
      const { event: asked, run_id } = event.data;
      return cleanUp(step, asked.data, asked.id, run_id, error.message);
    },
  },
  { event: "plushie/generate.requested" },
  async ({ event, step, runId, attempt }) => {
    const { generationId: id, userId, imageData, imageType } = event.data;
    // In a folder of this run's: when another has failed, what it cleans up is not what a retry has put there.
    const folder = `${id}/${runId}`;
    const original = await step.run("upload-original", async () => {
      await ask(`blob/original/${id}`, attempt);
      return put(`${folder}/original.${imageType.split("/")[1]}`, Buffer.from(imageData, "base64"));
    });
    const look = await step.run("analyze-image", async () => {
      await ask(`model/analyze/${userId}`, attempt);
      return { bytes: get(original).length };
    });
    const drawn = await step.run("generate-plushie", async () => {
      await ask(`model/draw/${id}`, attempt);
      return Buffer.from(`a plushie of ${look.bytes} bytes`).toString("base64");
    });
    const plushie = await step.run("upload-generated", async () => {
      await ask(`blob/plushie/${id}`, attempt);
      return put(`${folder}/plushie.png`, Buffer.from(drawn, "base64"));
    });
    const creditsLeft = await step.run("finalize", async () => {
      await ask(`credits/${id}`, attempt);
      return studio.complete(id, userId, plushie);
    });
    return { plushie, creditsLeft };
  },
);

const cancelled = inngest.createFunction(
  { id: "generation-cancelled" },
  { event: "inngest/function.cancelled", if: "event.data.function_id == 'plushify-generate-plushie'" },
  async ({ event, step }) => {
    // The SDK's type knows less of this event than the event has.
    const { event: asked, run_id } = event.data as typeof event.data & { event: { id?: string; data: Asked } };
    return cleanUp(step, asked.data, asked.id, run_id, "it was cancelled");
  },
);

export const functions = [generate, cancelled];
