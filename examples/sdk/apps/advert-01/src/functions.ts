// The functions, one for each event. The keys are read by the SDK itself: INNGEST_EVENT_KEY, INNGEST_SIGNING_KEY.
import { Inngest } from "inngest";
import { emailSend, exportPdf, helloWorld, strategyGenerate, webhookDeliver } from "./events.ts";
import { outline, post, printPdf, sendMail, signature, write } from "./outside.ts";

export const inngest = new Inngest({ id: "advert-01" });

const hello = inngest.createFunction({ id: "hello-world", triggers: [helloWorld] }, async ({ event, step }) => {
  await step.run("log-message", () => console.log(JSON.stringify({ said: event.data.message })));
  await step.sleep("wait-a-moment", "1s");
  return { greeting: `Hello, ${event.data.message}!` };
});

const email = inngest.createFunction({ id: "send-email", retries: 5, triggers: [emailSend] }, async ({ event, step }) =>
  step.run("send", () => sendMail(event.data)),
);

const strategy = inngest.createFunction(
  { id: "generate-strategy", retries: 3, triggers: [strategyGenerate] },
  async ({ event, step }) => {
    const headings = await step.run("outline", () => outline(event.data.goal, event.data.budgetCents));
    const paragraphs = await Promise.all(headings.map((heading) => step.run(`write ${heading}`, () => write(heading))));
    return { clientId: event.data.clientId, paragraphs };
  },
);

const pdf = inngest.createFunction({ id: "export-pdf", triggers: [exportPdf] }, async ({ event, step }) =>
  step.run("print", () => printPdf(event.data.documentId, event.data.paper)),
);

const webhook = inngest.createFunction(
  { id: "deliver-webhook", retries: 8, triggers: [webhookDeliver] },
  async ({ event, step }) => {
    const { url, payload } = event.data;
    return step.run("post", () => post(url, payload, signature(payload, process.env.ADVERT_SIGNING_KEY)));
  },
);

export const functions = [hello, email, strategy, pdf, webhook];
