// The durable function: a step for each query and model, then one that stores.
import { EventSchemas, Inngest } from "inngest";
import { collections } from "./collections.ts";
import { ask, type Model } from "./models.ts";

type Events = {
  "collection.start": { data: { collection_id: string; brand: string; queries: string[]; models: Model[] } };
};

export const inngest = new Inngest({ id: "clover-dashboard", schemas: new EventSchemas().fromRecord<Events>() });

export const collection = inngest.createFunction(
  { id: "collection", retries: 3 },
  { event: "collection.start" },
  async ({ event, step }) => {
    const { collection_id, brand, queries, models } = event.data;
    const pairs = queries.flatMap((query) => models.map((model) => ({ model, query })));
    const answers = await Promise.all(
      pairs.map(({ model, query }) => step.run(`ask ${model}: ${query}`, () => ask(model, query, brand))),
    );
    const mentions = await step.run("store", () => collections.finish(collection_id, answers));
    return { collection_id, answers: answers.length, mentions };
  },
);
