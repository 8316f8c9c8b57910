// The events: each has a type, so what does not fit is refused where it is sent, and by the compiler before.
import { eventType } from "inngest";
import { z } from "zod";

export const helloWorld = eventType("test/hello.world", { schema: z.object({ message: z.string() }) });
export const emailSend = eventType("email/send", {
  schema: z.object({ to: z.string().email(), subject: z.string(), body: z.string() }),
});
export const strategyGenerate = eventType("strategy/generate", {
  schema: z.object({ clientId: z.string(), goal: z.string(), budgetCents: z.number().int() }),
});
export const exportPdf = eventType("export/pdf", {
  schema: z.object({ documentId: z.string(), paper: z.enum(["a4", "letter"]) }),
});
export const webhookDeliver = eventType("webhook/deliver", {
  schema: z.object({ url: z.string().url(), payload: z.record(z.string()) }),
});

export const events = { helloWorld, emailSend, strategyGenerate, exportPdf, webhookDeliver };
