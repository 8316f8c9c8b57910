// In place of a database: one JSON file, written whole. A change is one transaction, for nobody else writes meanwhile.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

export class Store<T> {
  readonly #path: string;
  #content: T;

  constructor(path: string, empty: T) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true });
    try {
      this.#content = JSON.parse(readFileSync(path, "utf8")) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      this.#content = empty;
    }
  }

  read(): Readonly<T> {
    return this.#content;
  }

  /** Change it; what throws changes nothing. */
  change<R>(act: (content: T) => R): R {
    const next = structuredClone(this.#content);
    const result = act(next);
    writeFileSync(`${this.#path}.new`, JSON.stringify(next));
    renameSync(`${this.#path}.new`, this.#path);
    this.#content = next;
    return result;
  }
}
