// Express: the jobs, and the functions at /api/inngest.
import express from "express";
import { serve } from "inngest/express";
import { functions, inngest } from "./functions.ts";
import { jobs } from "./jobs.ts";

const app = express();
app.use(express.json({ limit: "8mb" })); // a call has up to 4 MiB
app.get("/api/jobs", (_request, response) => void response.json(jobs.all()));
app.use("/api/inngest", serve({ client: inngest, functions }));

const port = Number(process.env.PORT ?? 3000);
app.listen(port, "127.0.0.1", () => console.log(`investments-planner: http://127.0.0.1:${port}`));
