// What is outside: a mail server, a model, a printer of PDFs, other people's webhooks. Stand-ins, all of them.
import { createHash, createHmac } from "node:crypto";
import { RetryAfterError } from "inngest";
import { outside, Unavailable } from "stand-ins";

/** Ask outside; what does not answer is asked again in a second. */
async function ask(call: string): Promise<void> {
  try {
    await outside(call);
  } catch (error) {
    if (error instanceof Unavailable) throw new RetryAfterError(error.message, "1s", { cause: error });
    throw error;
  }
}

export async function sendMail(mail: { to: string; subject: string; body: string }): Promise<string> {
  await ask("mail");
  return createHash("sha256").update(`${mail.to}\n${mail.subject}\n${mail.body}`).digest("hex").slice(0, 12);
}

export async function outline(goal: string, budgetCents: number): Promise<string[]> {
  await ask("model/outline");
  return [`Why ${goal}`, `How, for ${(budgetCents / 100).toFixed(2)}`, "By when"];
}

export async function write(heading: string): Promise<string> {
  await ask(`model/write/${heading}`);
  return `${heading}: it depends.`;
}

export async function printPdf(documentId: string, paper: string): Promise<string> {
  await ask("pdf");
  return `exports/${documentId}-${paper}.pdf`;
}

export function signature(payload: Record<string, string>, key: string | undefined): string {
  return key ? createHmac("sha256", key).update(JSON.stringify(payload)).digest("hex") : "";
}

export async function post(url: string, payload: Record<string, string>, signed: string): Promise<number> {
  await ask("webhook");
  return Object.keys(payload).length && (signed || url.startsWith("http://localhost")) ? 202 : 400;
}
