// The outside world of the applications: what examples/stand-ins/stand_ins/web.py is told happens, at STAND_INS_URL.
// Without that variable nothing happens: every call answers at once.

export class Unavailable extends Error {
  override name = "Unavailable";
}

/** Meet what is told of a call: it is slow, fails, or ends this process in the middle of what it does. */
export async function outside(call: string): Promise<void> {
  const server = process.env.STAND_INS_URL;
  if (!server) return;
  const answer = await fetch(`${server}/${call.split("/").map(encodeURIComponent).join("/")}`, { method: "POST" });
  const told = (await answer.json()) as { crash?: boolean; error?: string };
  if (told.crash) {
    process.kill(process.pid, "SIGKILL");
    await new Promise(() => {});
  }
  if (!answer.ok) throw new Unavailable(told.error ?? `${call}: ${answer.status}`);
}
