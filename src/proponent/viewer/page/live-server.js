/** What the live view asks of the server. */

const FIRST_PAUSE = 80;
const LONGEST_PAUSE = 500;

/** An answer that is no result: what the server said, in one line.  status: 0 where it did not answer. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(method, path, body, signal) {
  const options = { method, signal, headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer; is “proponent view” still running?");
  }
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, content?.detail ?? `The server answered with an error (${answer.status}).`);
  return content;
}

/** The likeliest words or names after a prompt, each with `text` and `probability`. */
export async function askContinuations(prompt, count, signal) {
  return (await ask("POST", "api/continuations", { prompt, count }, signal)).continuations;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Trace, and resolve with the id and the row.
 *
 * wanted: prompt, target, method, mix and k.  onStatus: called with each status.
 * signal: aborts it, here and on the server.
 */
export async function trace(wanted, onStatus, signal) {
  const { id } = await ask("POST", "api/traces", wanted, signal);
  const end = () => ask("DELETE", `api/traces/${id}`).catch(() => null);
  signal.addEventListener("abort", end, { once: true });
  try {
    for (let wait = FIRST_PAUSE; ; wait = Math.min(LONGEST_PAUSE, wait * 1.3)) {
      const status = await ask("GET", `api/traces/${id}`, undefined, signal);
      if (status.state === "done") return { id, row: status.row };
      if (status.state === "failed" || status.state === "cancelled") throw new Refusal(409, status.message);
      onStatus(status);
      await pause(wait);
    }
  } finally {
    signal.removeEventListener("abort", end);
  }
}

/** The row of a trace under another method, mix or k. */
export async function rankAnew(id, { method, mix, k }, signal) {
  return (await ask("POST", `api/traces/${id}/rerank`, { method, mix, k }, signal)).row;
}
