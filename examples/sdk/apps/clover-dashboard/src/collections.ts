// Where collections are kept.
import { Store } from "stand-ins/store";
import type { Answer } from "./models.ts";

export type Collection = { id: string; brand: string; answers: Answer[] | null };

const store = new Store<Record<string, Collection>>(`${process.env.DATA_FOLDER ?? "data"}/collections.json`, {});

export const collections = {
  begin(id: string, brand: string): void {
    store.change((all) => (all[id] = { id, brand, answers: null }));
  },
  /** Forget one that could not be asked for. */
  withdraw(id: string): void {
    store.change((all) => delete all[id]);
  },
  /** Store what was collected; a second time it changes nothing. Return how often the brand was named. */
  finish(id: string, answers: Answer[]): number {
    store.change((all) => {
      const found = all[id];
      if (found) found.answers ??= answers;
    });
    return answers.reduce((sum, one) => sum + one.mentions, 0);
  },
  all: (): Collection[] => Object.values(store.read()),
};
