// A front end against the generated types: compiled by `make clients`, each line a promise they keep.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Run = components["schemas"]["RunDetail"];
type Problem = components["schemas"]["Problem"];

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function start(): Promise<Run> {
  const { data, error } = await api.POST("/runs", {
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { automation: "finance.cashflow_report", input: {}, priority: 5, tags: ["smoke"] },
  });
  if (error) throw refused(error);
  return data;
}

export async function failures(): Promise<string[]> {
  const { data, error } = await api.GET("/runs", {
    params: { query: { state: "failed", limit: 10 } },
  });
  if (error) throw refused(error);
  return data.results.map((run) => `${run.id} ${run.error?.code ?? ""}`);
}

export async function wrong(): Promise<void> {
  // @ts-expect-error: no such state
  await api.GET("/runs", { params: { query: { state: "sideways" } } });
  // @ts-expect-error: the automation is missing
  await api.POST("/runs", { body: { input: {} } });
  // @ts-expect-error: no such address
  await api.GET("/walks");
}

function refused(problem: Problem): Error {
  return new Error(`${problem.status} ${problem.code}: ${problem.detail}`);
}
