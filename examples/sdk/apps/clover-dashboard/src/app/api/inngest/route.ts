import { serve } from "inngest/next";
import { collection, inngest } from "../../../inngest.ts";

export const { GET, POST, PUT } = serve({ client: inngest, functions: [collection] });
