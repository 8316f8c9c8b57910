// In a Next.js project this file is not there: `next start` serves what is below app/.
import { serveRoutes } from "stand-ins/next";
import * as job from "./app/api/admin/jobs/[id]/route.ts";
import * as jobs from "./app/api/admin/jobs/route.ts";
import * as inngest from "./app/api/inngest/route.ts";

serveRoutes({ "api/admin/jobs": jobs, "api/admin/jobs/[id]": job, "api/inngest": inngest }, "poligraph");
