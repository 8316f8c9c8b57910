// Credits and generations. What must hold for two requests at once, or for a step that is done twice, is one change.
import { NonRetriableError } from "inngest";
import { Store } from "stand-ins/store";

export type Generation = {
  id: string; user: string; status: "processing" | "completed" | "failed"; imageType: string; imageData: string;
  tries: number; error: string; charged: boolean; plushie: string | null;
};
type Content = { credits: Record<string, number>; generations: Record<string, Generation> };

const MOST_AT_ONCE = 5;
const FIRST_CREDITS = 10;
const store = new Store<Content>(`${process.env.DATA_FOLDER ?? "data"}/studio.json`, { credits: {}, generations: {} });

/** What somebody wants is not possible now; the message is for them. */
export class Refused extends Error {}

/** The id of the event that asked for a generation last. */
export const askedBy = (one: Generation): string => `${one.id}-${one.tries}`;

const ofUser = (all: Readonly<Content>, user: string) => Object.values(all.generations).filter((one) => one.user === user);
const inProcess = (all: Readonly<Content>, user: string) =>
  ofUser(all, user).filter((one) => one.status === "processing").length;

function takePlace(all: Content, user: string): void {
  const busy = inProcess(all, user);
  if (busy >= MOST_AT_ONCE)
    throw new Refused(`You have ${busy} generations in progress. Please wait for one to complete.`);
  all.credits[user] ??= FIRST_CREDITS;
  if (all.credits[user] - busy < 1) throw new Refused("You have no credit left.");
}

export const studio = {
  begin(id: string, user: string, imageType: string, imageData: string): Generation {
    return store.change((all) => {
      takePlace(all, user);
      return (all.generations[id] = {
        id, user, status: "processing", imageType, imageData, tries: 1, error: "", charged: false, plushie: null,
      });
    });
  },
  beginAgain(id: string, user: string): Generation {
    return store.change((all) => {
      const found = all.generations[id];
      if (!found || found.status !== "failed") throw new Refused("Only a generation that has failed can be tried again.");
      takePlace(all, user);
      return Object.assign(found, { status: "processing", error: "", tries: found.tries + 1 });
    });
  },
  /** Take one credit and mark the generation completed, in one act; done twice, it takes one. Return how many are left. */
  complete(id: string, user: string, plushie: string): number {
    return store.change((all) => {
      const found = all.generations[id];
      if (!found) throw new NonRetriableError(`there is no generation ${id}`);
      const left = all.credits[user] ?? 0;
      if (found.charged) return left;
      if (left < 1) throw new NonRetriableError(`${user} has no credit left`);
      Object.assign(found, { status: "completed", error: "", charged: true, plushie });
      return (all.credits[user] = left - 1);
    });
  },
  /** Mark a generation failed, unless it is completed, or has been tried again since by another event. */
  fail(id: string, event: string | undefined, why: string): void {
    store.change((all) => {
      const found = all.generations[id];
      if (found?.status === "processing" && askedBy(found) === event) Object.assign(found, { status: "failed", error: why });
    });
  },
  withdraw(id: string): void {
    store.change((all) => delete all.generations[id]);
  },
  get: (id: string): Generation | undefined => store.read().generations[id],
  gallery(user: string) {
    const all = store.read();
    const inUse = inProcess(all, user);
    const available = Math.max(0, (all.credits[user] ?? FIRST_CREDITS) - inUse);
    return { credits: `${available} available (${inUse} in use)`, generations: ofUser(all, user).map(shown) };
  },
};

export const shown = ({ id, status, tries, error }: Generation) => ({ id, status, tries, error });
