/** How a trace is ranked: method, λ and the number of passages. */

import { el, plain } from "./dom.js";
import { methodName } from "./method.js";

const STEPS = 300;
const LARGEST = 0.999;
const COUNTS = [5, 10, 20, 50, 100];

/** Each third of the slider takes 1 − λ down tenfold: 0, 0.9, 0.99, 0.999. */
const mixAt = (step) => (step >= STEPS ? LARGEST : 1 - 10 ** ((-3 * step) / STEPS));
const stepOf = (mix) => Math.round((STEPS * Math.log10(1 / Math.max(1 - LARGEST, 1 - mix))) / 3);
/** λ with enough digits to differ from 1. */
export const mixText = (mix) => (mix === 0 ? "0" : plain(mix, mix < 0.9 ? 2 : 3));

/**
 * The controls.  run: the server's description of the run.  changed: called with `{method, mix, k}` at
 * once when a person changes one.  Returns `{node, get, set}`.
 */
export function liveSettings(run, changed) {
  const counts = [...new Set([...COUNTS.filter((count) => count < run.k_max), run.k_max])].slice(0, COUNTS.length);
  const notify = () => changed(get());
  const choose = (mix) => {
    settings.mix = mix;
    showMix(settings);
    notify();
  };
  const settings = {
    run,
    mix: run.task ? "auto" : null,
    method: el(
      "select",
      { id: "live-method", onchange: () => (showMix(settings), notify()) },
      run.methods.map((name) => el("option", { value: name }, methodName(name))),
    ),
    k: el("select", { id: "live-k", onchange: notify }, counts.map((count) => el("option", { value: count }, plain(count)))),
    slider: el("input", { id: "live-mix", type: "range", min: 0, max: STEPS, step: 1, oninput: () => choose(mixAt(Number(settings.slider.value))) }),
    shown: el("output", { id: "live-mix-value", for: "live-mix" }),
    auto: el("button", { type: "button", class: "live-auto", onclick: () => choose("auto") }, "auto"),
    note: el("p", { class: "muted live-mix-note" }),
  };
  const get = () => {
    const { method, mix, k } = settings;
    return { method: method.value, mix: isMixed(settings) ? mix : null, k: Number(k.value) };
  };
  const set = ({ method, mix, k }) => {
    if (run.methods.includes(method)) settings.method.value = method;
    if (run.task && (mix === "auto" || (mix !== null && mix >= 0 && mix < 1))) settings.mix = mix;
    if (counts.includes(Number(k))) settings.k.value = k;
    showMix(settings);
  };
  settings.k.value = counts.includes(10) ? 10 : counts.at(-1);
  showMix(settings);
  return { node: layout(settings), get, set };
}

const isMixed = ({ run, method }) => run.mixed_methods.includes(method.value);

function showMix(settings) {
  const { run, mix, slider, shown, auto } = settings;
  const mixed = isMixed(settings);
  slider.disabled = auto.disabled = !mixed;
  const value = mix === "auto" ? run.mix_default : (mix ?? 0);
  if (mix === "auto" || Number(slider.value) !== stepOf(value)) slider.value = stepOf(value);
  shown.textContent = mixed ? mixText(value) : "–";
  slider.setAttribute("aria-valuetext", mixed ? `lambda ${mixText(value)}${mix === "auto" ? ", automatic" : ""}` : "not used");
  auto.setAttribute("aria-pressed", String(mixed && mix === "auto"));
  settings.note.textContent = noteOn(run, settings.method.value, mixed);
}

function layout({ method, slider, shown, auto, k, note }) {
  return el(
    "div",
    { class: "live-settings", role: "group", "aria-label": "Ranking" },
    el("div", { class: "live-field" }, el("label", { for: "live-method" }, "Method"), method),
    el(
      "div",
      { class: "live-field live-mix" },
      el("label", { for: "live-mix" }, "Task mix λ"),
      el("div", { class: "live-mix-row" }, slider, shown, auto),
    ),
    el("div", { class: "live-field" }, el("label", { for: "live-k" }, "Passages"), k),
    note,
  );
}

function noteOn(run, method, mixed) {
  if (mixed) return `λ takes out what the ${plain(run.task_queries)} queries of the task share, such as their template.`;
  if (!run.task) return "Start the viewer with --task QUERIES to mix out what all queries of a task share.";
  return `${methodName(method)} has no task mix.`;
}
