// What the compiler refuses: a payload that does not fit. Nothing runs this; `npm run types` checks it.
import { exportPdf, helloWorld, strategyGenerate } from "./events.ts";

helloWorld.create({ message: "fits" });
// @ts-expect-error a message is text
helloWorld.create({ message: 7 });
// @ts-expect-error a strategy has a budget
strategyGenerate.create({ clientId: "c1", goal: "grow" });
// @ts-expect-error there is no such paper
exportPdf.create({ documentId: "d1", paper: "a3" });
