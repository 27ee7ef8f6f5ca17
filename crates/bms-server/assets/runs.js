"use strict";
// Runs of an experiment and the curves of one metric, read from the routes MLflow's client uses. Whatever comes from the
// server enters the page as text, never as markup.

const API = "/api/2.0/mlflow";
const POLL_MS = 3000;
const RUNS_SHOWN = 50;
const CURVES_SHOWN = 8;
const POINTS_SHOWN = 500;
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 240, 56, 12, 10, 24];

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; strings become text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text != null) element.textContent = text;
  return element;
}

async function call(path, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {};
  const answer = await fetch(API + path, { ...options, signal: AbortSignal.timeout(8000) });
  const read = await answer.json();
  if (!answer.ok) throw new Error(read.message ?? `status ${answer.status}`);
  return read;
}

/** Numbers come as such, infinities and NaN as text. */
const value = (metric) => Number(metric.value);
const shown = (number) => (Number.isFinite(number) ? String(Number(number.toPrecision(5))) : String(number));

function duration(info) {
  if (!info.end_time) return info.status === "RUNNING" ? "running" : "–";
  const seconds = Math.max(0, (info.end_time - info.start_time) / 1000);
  return seconds < 120 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`;
}

/** Keeps what is chosen when the choices change. */
function choices(select, options) {
  const before = select.value;
  const same = select.options.length === options.length && options.every(([key], at) => select.options[at].value === key);
  if (same) return;
  select.replaceChildren(...options.map(([key, text]) => h("option", { value: key }, text)));
  if (options.some(([key]) => key === before)) select.value = before;
}

function table(runs, metric) {
  const head = h("tr", {}, ...["", "run", "status", "took", "by", metric || "metric", "parameters"].map((name) => h("th", {}, name)));
  const rows = runs.map((run, at) => {
    const last = (run.data.metrics ?? []).find((one) => one.key === metric);
    const params = (run.data.params ?? []).map((param) => `${param.key}=${param.value}`).join(", ");
    const mark = at < CURVES_SHOWN ? h("span", { class: `curve-mark curve-${at}` }) : null;
    const status = { FINISHED: "good", FAILED: "bad", KILLED: "bad" }[run.info.status] ?? "accent";
    return h("tr", {}, h("td", {}, mark), h("td", { title: run.info.run_id }, run.info.run_name),
      h("td", {}, h("span", { class: `chip ${status}` }, run.info.status.toLowerCase())), h("td", {}, duration(run.info)),
      h("td", {}, run.info.user_id), h("td", { class: "number" }, last ? shown(value(last)) : "–"), h("td", { title: params }, params));
  });
  return h("table", {}, h("thead", {}, head), h("tbody", {}, rows));
}

function draw(metric, runs, points) {
  const picture = $("curves");
  const finite = points.filter((point) => Number.isFinite(value(point)));
  const title = svg("title", { id: "curves-title" }, finite.length ? `${metric} by step, ${runs.length} runs` : "No values yet");
  picture.replaceChildren(title);
  $("legend").replaceChildren(...runs.map((run, at) => h("span", { class: "chip" }, h("span", { class: `curve-mark curve-${at}` }), ` ${run.info.run_name}`)));
  if (!finite.length) return;
  const steps = finite.map((point) => Number(point.step ?? 0));
  const values = finite.map(value);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (one) => HEIGHT - BOTTOM - ((one - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  for (const share of [0, 0.5, 1]) {
    const at = low + share * (high - low);
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }));
    picture.append(svg("text", { class: "tick", x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, shown(at)));
  }
  for (const step of new Set([first, last])) {
    picture.append(svg("text", { class: "tick", x: x(step), y: HEIGHT - 6, "text-anchor": step === first ? "start" : "end" }, `step ${step}`));
  }
  runs.forEach((run, at) => {
    const own = finite.filter((point) => point.run_id === run.info.run_id);
    const line = own.map((point) => `${x(Number(point.step ?? 0)).toFixed(1)},${y(value(point)).toFixed(1)}`).join(" ");
    if (own.length === 1) picture.append(svg("circle", { class: `curve curve-${at}`, cx: x(Number(own[0].step ?? 0)), cy: y(value(own[0])), r: 3 }));
    else picture.append(svg("polyline", { class: `curve curve-${at}`, points: line }));
  });
}

async function refresh() {
  const { experiments = [] } = await call("/experiments/search", { max_results: 1000 });
  const first = $("experiment").options.length === 0;
  choices($("experiment"), experiments.map((one) => [one.experiment_id, one.name]));
  if (first) {
    // Where something happened last is what people come to see.
    const { runs: latest = [] } = await call("/runs/search", { experiment_ids: experiments.map((one) => one.experiment_id), max_results: 1 });
    if (latest.length) $("experiment").value = latest[0].info.experiment_id;
  }
  const asked = { experiment_ids: [$("experiment").value], filter: $("filter").value, max_results: RUNS_SHOWN };
  const { runs = [] } = await call("/runs/search", asked);
  const metrics = [...new Set(runs.flatMap((run) => (run.data.metrics ?? []).map((metric) => metric.key)))].sort();
  const chosen = $("metric").value;
  choices($("metric"), metrics.map((name) => [name, name]));
  if (!metrics.includes(chosen)) {
    // The metric that went furthest has the curve to look at.
    const steps = runs.flatMap((run) => run.data.metrics ?? []).sort((a, b) => Number(b.step) - Number(a.step));
    if (steps.length) $("metric").value = steps[0].key;
  }
  const metric = $("metric").value;
  $("runs").replaceChildren(runs.length ? table(runs, metric) : h("p", { class: "empty" }, "No runs here yet. Set MLFLOW_TRACKING_URI to this server's address and log one."));
  const curves = runs.slice(0, CURVES_SHOWN);
  let points = [];
  if (metric && curves.length) {
    const query = new URLSearchParams([...curves.map((run) => ["run_ids", run.info.run_id]), ["metric_key", metric], ["max_results", POINTS_SHOWN]]);
    ({ metrics: points = [] } = await call(`/metrics/get-history-bulk-interval?${query}`));
  }
  draw(metric, curves, points);
}

let busy = false;
async function poll() {
  if (busy || document.hidden) return;
  busy = true;
  try {
    await refresh();
    $("state").textContent = "live";
    $("state").className = "pill good";
  } catch (error) {
    $("state").textContent = error.message;
    $("state").className = "pill bad";
  }
  busy = false;
}

for (const id of ["experiment", "filter", "metric"]) $(id).addEventListener("change", poll);
document.addEventListener("visibilitychange", poll);
setInterval(poll, POLL_MS);
poll();
