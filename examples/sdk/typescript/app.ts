// A shop, by the official TypeScript SDK: nothing in here knows which server calls it.
import express from "express";
import { Inngest, NonRetriableError } from "inngest";
import { serve } from "inngest/express";

const inngest = new Inngest({ id: "shop" });

// At most one parcel of a customer is packed at a time; others wait.
const ship = inngest.createFunction(
  { id: "ship", concurrency: { limit: 1, key: "event.data.customer" }, triggers: { event: "shop/parcel.asked" } },
  async ({ event, step }) => {
    return await step.run("pack", () => ({ parcel: `parcel of ${event.data.order}` }));
  },
);

const order = inngest.createFunction(
  { id: "order", retries: 3, triggers: { event: "shop/order.placed" } },
  async ({ event, step }) => {
    const cents = await step.run("price", () => {
      if (!event.data.cents) throw new NonRetriableError("an order without a price");
      return event.data.cents * 2;
    });
    const paid = await step.waitForEvent("payment", {
      event: "shop/order.paid", timeout: "1h", if: "event.data.order == async.data.order",
    });
    if (!paid) return { cancelled: true };
    await step.sleep("cool off", "1s");
    const { parcel } = await step.invoke("ship", {
      function: ship, data: { order: event.data.order, customer: event.data.customer },
    });
    return { cents, parcel };
  },
);

const nightly = inngest.createFunction(
  { id: "nightly", triggers: [{ cron: "TZ=Europe/Paris 0 4 * * *" }, { event: "shop/report.asked" }] },
  async ({ step }) => step.run("report", () => "all is well"),
);

const app = express();
app.use(express.json({ limit: "8mb" })); // a call has up to 4 MiB
app.use("/api/inngest", serve({ client: inngest, functions: [order, ship, nightly] }));
const port = Number(process.env.PORT ?? 3000);
app.listen(port, "127.0.0.1", () => console.log(`shop: http://127.0.0.1:${port}/api/inngest`));
