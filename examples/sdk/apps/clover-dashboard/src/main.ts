// In a Next.js project this file is not there: `next start` serves what is below app/.
import { serveRoutes } from "stand-ins/next";
import * as collections from "./app/api/collections/route.ts";
import * as inngest from "./app/api/inngest/route.ts";

serveRoutes({ "api/collections": collections, "api/inngest": inngest }, "clover-dashboard");
