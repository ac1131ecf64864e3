/** Live tracing: a prompt, what the model would say, a target, and the passages behind it. */

import { counted, el, plain, show } from "./dom.js";
import { newHistory } from "./live-history.js";
import { askContinuations, rankAnew, Refusal, trace } from "./live-server.js";
import { liveSettings } from "./live-settings.js";
import { percent, wordList } from "./live-words.js";
import { textNodes } from "./passage.js";

const COUNT = 8;
const NARROW = matchMedia("(max-width: 59.99rem)");

/**
 * Fill a section with the live view.
 *
 * state: the server's, with `run`.  showRow: shows a row's passages in an element.  read, write: of the
 * address's state, of which prompt, target, method, mix and k are ours.  Returns a function that shows
 * what the address holds.
 */
export function mountLive(section, { state, showRow, read = () => ({}), write = () => {} }) {
  const live = { run: state.run, showRow, read, write, current: null, work: null, ranking: null };
  live.history = newHistory(`${state.run.model}/${state.run.name}/${state.run.passages}`);
  live.settings = liveSettings(state.run, () => rerank(live));
  live.parts = parts(live);
  show(section, ...layout(live));
  showHistory(live);
  const refresh = () => fromAddress(live);
  refresh();
  return refresh;
}

function parts(live) {
  const ask = () => predict(live);
  const enter = (act) => (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    act();
  };
  return {
    prompt: el("textarea", { id: "live-prompt", rows: 2, maxlength: 8000, placeholder: "The beginning of a sentence", spellcheck: "false", onkeydown: enter(ask) }),
    target: el("input", { id: "live-target", type: "text", maxlength: 8000, autocomplete: "off", spellcheck: "false", onkeydown: enter(() => start(live)) }),
    ask: el("button", { type: "button", onclick: ask }, "What would the model say?"),
    trace: el("button", { type: "button", class: "primary", onclick: () => start(live) }, "Trace"),
    words: el("div", { id: "live-says" }),
    status: el("p", { class: "live-status muted", role: "status" }),
    error: el("p", { class: "live-error", role: "alert", hidden: true }),
    meter: el("progress", { class: "live-meter", "aria-label": "Progress", max: 1, hidden: true }),
    cancel: el("button", { type: "button", class: "live-cancel", hidden: true, onclick: () => live.work?.abort() }, "Cancel"),
    result: el("div", { class: "live-result" }),
    history: el("div", { class: "live-history" }),
  };
}

function layout(live) {
  const { run, parts: at } = live;
  return [
    el(
      "div",
      { class: "live-side" },
      el("p", { class: "muted" }, "Model ", el("bdi", {}, run.model), ", run ", el("bdi", {}, run.name), ` of ${counted(run.passages, "passage")}`),
      el("div", { class: "live-field" }, el("label", { for: "live-prompt" }, "Prompt"), at.prompt),
      el("div", { class: "live-row" }, at.ask),
      examples(live),
      at.words,
      el("div", { class: "live-field" }, el("label", { for: "live-target" }, "Target: what it says, or might have said"), at.target),
      el("div", { class: "live-row" }, at.trace, at.cancel),
      at.meter,
      at.status,
      at.error,
      at.history,
    ),
    el("div", { class: "live-main" }, el("div", { class: "live-head" }), live.settings.node, at.result),
  ];
}

function examples(live) {
  if (!live.run.examples.length) return null;
  const buttons = live.run.examples.slice(0, 4).map(({ prompt }) =>
    el("button", { type: "button", class: "live-example", onclick: () => ((live.parts.prompt.value = prompt), predict(live)) }, el("bdi", {}, textNodes(prompt))),
  );
  return el("div", { class: "live-examples", role: "group", "aria-label": "Examples" }, el("span", { class: "muted" }, "Try"), buttons);
}

const promptOf = (live) => live.parts.prompt.value.trim();
const targetOf = (live) => live.parts.target.value.trim();

function say(live, text, error = "") {
  live.parts.status.textContent = text;
  live.parts.error.textContent = error;
  live.parts.error.hidden = !error;
}

/** Do one thing at a time: what was under way is given up.  Returns whether it came to its end. */
async function busy(live, text, act) {
  live.work?.abort();
  const work = (live.work = new AbortController());
  const { meter, cancel } = live.parts;
  say(live, text);
  meter.hidden = cancel.hidden = false;
  meter.removeAttribute("value");
  try {
    await act(work.signal);
    return true;
  } catch (error) {
    if (work === live.work) say(live, work.signal.aborted ? "Cancelled." : "", work.signal.aborted ? "" : messageOf(error));
    return false;
  } finally {
    if (work === live.work) {
      meter.hidden = cancel.hidden = true;
      live.work = null;
    }
  }
}

function messageOf(error) {
  if (error instanceof Refusal) return error.message;
  console.error(error);
  return "Something went wrong in this page; its console says more.";
}

async function predict(live) {
  const prompt = promptOf(live);
  if (!prompt) return needs(live, "prompt", "Write the beginning of a sentence first.");
  show(live.parts.words);
  await busy(live, "Asking the model…", async (signal) => {
    const found = await askContinuations(prompt, COUNT, signal);
    if (promptOf(live) !== prompt) return say(live, "");
    say(live, found.length ? `${counted(found.length, "continuation")}: choose one to trace it.` : "The model has no word to go on with; write a target.");
    const chosen = (text) => ((live.parts.target.value = text), start(live));
    const added = (text) => ((live.parts.prompt.value = `${prompt} ${text}`), live.parts.prompt.focus(), predict(live));
    show(live.parts.words, wordList(found, chosen, added));
  });
}

function needs(live, part, message) {
  say(live, "", message);
  live.parts[part].focus();
}

async function start(live) {
  const prompt = promptOf(live);
  const target = targetOf(live);
  if (!prompt) return needs(live, "prompt", "Write a prompt first.");
  if (!target) return needs(live, "target", "Write a target, or ask what the model would say and choose.");
  await traceAnd(live, prompt, target, true);
}

/** Trace a query and show it.  first: whether it becomes the newest of the history. */
async function traceAnd(live, prompt, target, first) {
  const wanted = live.settings.get();
  await busy(live, "Tracing…", async (signal) => {
    const { id, row } = await trace({ prompt, target, ...wanted }, (status) => showStatus(live, status), signal);
    say(live, `Traced: ${counted(row.proponents.length, "proponent")} and ${counted(row.opponents.length, "opponent")}.`);
    showEntry(live, { prompt, target, id, row, wanted }, first, true);
    // on a narrow screen the form is above the result and may fill it
    if (NARROW.matches) document.getElementById("live-question").scrollIntoView();
  });
}

function showStatus(live, { state, position, done, total, message }) {
  const { meter, status } = live.parts;
  if (state === "queued") {
    status.textContent = position ? `Waiting: ${counted(position, "request")} before this one.` : "Waiting…";
    return;
  }
  const stage = message ? message[0].toUpperCase() + message.slice(1) : "Tracing";
  status.textContent = total ? `${stage}: ${plain(done)} of ${plain(total)}` : `${stage}…`;
  if (total) meter.value = done / total;
}

/** Show an entry of the history, and keep it there.  step: whether "back" returns to what was shown. */
function showEntry(live, entry, first, step) {
  live.current = entry;
  live.history.put(entry, first);
  showHistory(live);
  showHead(live, entry);
  live.showRow(entry.row, live.parts.result);
  const { method, mix, k } = entry.wanted;
  const { prompt, target } = entry;
  live.write({ prompt, target, method, mix: mix === null ? "" : String(mix), k: String(k) }, step);
}

function showHead(live, { prompt, target, row }) {
  const head = live.parts.result.parentElement.querySelector(".live-head");
  show(
    head,
    el(
      "h2",
      { id: "live-question" },
      el("bdi", {}, textNodes(prompt)),
      el("span", { class: "arrow", "aria-label": "target:" }, " → "),
      el("bdi", {}, el("mark", { class: "target" }, textNodes(target))),
    ),
    el("p", { class: "muted" }, `The model gives the target a probability of ${percent(row.probability)} after this prompt.`),
  );
}

/** Rank the shown trace again; of several changes in a row only the last counts. */
async function rerank(live) {
  const entry = live.current;
  if (!entry) return;
  live.ranking?.abort();
  const ranking = (live.ranking = new AbortController());
  const wanted = live.settings.get();
  try {
    const row = await rankAnew(entry.id, wanted, ranking.signal);
    if (live.current !== entry || ranking.signal.aborted) return;
    say(live, "");
    showEntry(live, { ...entry, row, wanted }, false, false);
  } catch (error) {
    if (ranking.signal.aborted || live.current !== entry) return;
    // the server keeps only its newest traces, and none after a restart
    if (error.status === 404) await traceAnd(live, entry.prompt, entry.target, false);
    else say(live, "", messageOf(error));
  }
}

function showHistory(live) {
  const entries = live.history.all();
  const clear = el("button", { type: "button", onclick: () => (live.history.clear(), showHistory(live)) }, "Clear");
  show(
    live.parts.history,
    entries.length ? el("div", { class: "live-history-head" }, el("h2", {}, "History"), clear) : null,
    el(
      "ol",
      { "aria-label": "History" },
      entries.map((entry) => {
        const shown = live.current?.prompt === entry.prompt && live.current.target === entry.target;
        return el(
          "li",
          {},
          el(
            "button",
            { type: "button", class: "live-entry", "aria-current": shown ? "true" : null, onclick: () => openEntry(live, entry, true) },
            el("bdi", { class: "prompt-line" }, textNodes(entry.prompt)),
            el("span", { class: "live-entry-line" }, el("bdi", { class: "target-line" }, textNodes(entry.target)), el("span", { class: "mini" }, percent(entry.row.probability))),
          ),
        );
      }),
    ),
  );
}

function openEntry(live, entry, step) {
  live.work?.abort();
  live.parts.prompt.value = entry.prompt;
  live.parts.target.value = entry.target;
  show(live.parts.words);
  say(live, "");
  live.settings.set(entry.wanted);
  showEntry(live, entry, false, step);
}

/** Show what the address holds: from the history where it is there, traced where it is not. */
function fromAddress(live) {
  const given = live.read();
  if (given.view !== undefined && given.view !== "live") return;
  const prompt = (given.prompt ?? "").trim();
  const target = (given.target ?? "").trim();
  if (!prompt || (live.current?.prompt === prompt && live.current.target === target)) return;
  const mix = given.mix === "auto" || given.mix === "" ? given.mix : Number(given.mix);
  const entry = live.history.find({ prompt, target });
  const wanted = { method: given.method, mix: mix === "" ? null : mix, k: given.k };
  if (entry) {
    openEntry(live, entry, false);
    const before = JSON.stringify(live.settings.get());
    live.settings.set(wanted);
    if (given.method && JSON.stringify(live.settings.get()) !== before) rerank(live);
    return;
  }
  live.parts.prompt.value = prompt;
  live.parts.target.value = target;
  live.settings.set(wanted);
  if (target) traceAnd(live, prompt, target, true);
  else predict(live);
}
