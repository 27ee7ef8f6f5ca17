"use strict";
// The dashboard: reads /api/v1/overview every second and shows it. Whatever comes from the server enters
// the page as text, never as markup.

const POLL_MS = 1000;
const TIMEOUT_MS = 8000;
/** A node reports every few seconds; one that is silent for longer counts as offline. */
const NODE_SILENT_MS = 20000;
const VERSIONS_SHOWN = 5;
const QUARANTINE_SHOWN = 8;
const ANSWERS_SHOWN = 5;
const PICTURE_BYTES_MAX = 8 << 20;

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

// ---- values as text -------------------------------------------------------------------------------

const number = new Intl.NumberFormat("en");
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value) => (finite(value) ? number.format(value) : "–");

function bytes(value) {
  if (!finite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`;
}

function milliseconds(value) {
  if (!finite(value)) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 ? Math.round(value) : value.toFixed(value >= 10 ? 1 : 2)} ms`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** The largest `parts` units of a time span, e.g. `1 d 2 h`. */
function duration(seconds, parts = 2) {
  const texts = [];
  let rest = Math.max(0, Math.floor(seconds));
  for (const [name, size] of UNITS) {
    if (rest >= size && texts.length < parts) texts.push(`${Math.floor(rest / size)} ${name}`);
    else if (texts.length > 0) break;
    rest %= size;
  }
  return texts.join(" ") || "0 s";
}

const metric = (value) => (value >= 0 && value <= 1 ? `${(100 * value).toFixed(2)} %` : value.toPrecision(4));
const short = (digest) => String(digest).slice(0, 10);

/** How far the server's clock is ahead of this one. */
let clockAhead = 0;
const now = () => Date.now() + clockAhead;
const ago = (at) => (now() - at < 1500 ? "just now" : `${duration((now() - at) / 1000, 1)} ago`);

function time(at) {
  const exact = new Date(at);
  if (Number.isNaN(exact.getTime())) return h("span", {}, "–");
  return h("time", { "data-at": at, datetime: exact.toISOString(), title: exact.toLocaleString() }, ago(at));
}

// ---- showing --------------------------------------------------------------------------------------

const shown = new Map();

/** Fills the element `id` anew, but only when `data` changed: selections and focus stay. */
function show(id, data, build) {
  const key = JSON.stringify(data);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  const place = $(id);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...[build()].flat());
  if (focused) [...place.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus();
}

const empty = (...children) => h("p", { class: "empty" }, ...children);
const chip = (text, kind) => h("span", { class: `chip ${kind ?? ""}` }, text);

/** A table. A column is `[heading, class]`; a cell is text or nodes. */
function table(caption, columns, rows) {
  const head = columns.map(([heading, kind]) => h("th", { scope: "col", class: kind }, heading));
  const body = rows.map((cells) =>
    h("tr", {}, cells.map((cell, i) => h("td", { class: columns[i][1], "data-label": columns[i][0] }, cell))));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body));
}

const unfolded = new Set();

function showModels(models) {
  const byDigest = new Map(models.flatMap((model) => model.versions.map((v) => [v.digest, v])));
  show("models", [models, [...unfolded]], () => {
    if (models.length === 0) {
      return empty("No models yet. ", h("code", {}, "bms push"), " publishes one, ", h("code", {}, "bms demo"), " shows the whole loop.");
    }
    return models.map((model) => {
      const all = unfolded.has(model.name);
      const versions = all ? model.versions : model.versions.slice(0, VERSIONS_SHOWN);
      const hidden = model.versions.length - VERSIONS_SHOWN;
      const toggle = () => {
        if (!unfolded.delete(model.name)) unfolded.add(model.name);
        showModels(models);
      };
      return h("div", { class: "group" },
        h("div", { class: "group-head" }, h("h3", {}, model.name),
          h("span", { class: "muted small" }, `${model.versions[0]?.task ?? ""} · ${count(model.versions.length)} version${model.versions.length === 1 ? "" : "s"}`)),
        versionTable(model, versions, byDigest),
        hidden > 0 && h("button", { type: "button", class: "link", "data-key": model.name, "aria-expanded": String(all), onclick: toggle },
          all ? "Show fewer" : `Show ${count(hidden)} older`));
    });
  });
}

function versionTable(model, versions, byDigest) {
  // Accuracy where there is one; otherwise the first metric, under its own name.
  const names = versions.flatMap((v) => Object.keys(v.metrics ?? {}));
  const name = names.includes("accuracy") ? "accuracy" : names[0];
  const heading = name ? name[0].toUpperCase() + name.slice(1) : "Accuracy";
  const columns = [["Version", "lead nowrap"], [heading, "number"], ["Size", "number"], ["Signer", ""], ["Aliases", ""], ["Made from", ""], ["Created", "nowrap"]];
  return table(`Versions of ${model.name}`, columns, versions.map((v) => [
    h("span", { title: `digest ${v.digest}` }, `v${v.version}`),
    finite(v.metrics?.[name]) ? metric(v.metrics[name]) : "–",
    bytes(v.size_bytes),
    v.signer ?? chip("unsigned", "warn"),
    v.aliases.length ? h("span", { class: "chips" }, v.aliases.map((alias) => chip(alias, "accent"))) : "",
    v.parent ? parent(v, byDigest) : "",
    time(v.created_ms),
  ]));
}

function parent(version, byDigest) {
  const from = byDigest.get(version.parent);
  if (!from) return h("span", { class: "mono", title: version.parent }, short(version.parent));
  const name = from.model === version.model ? "" : `${from.model} `;
  return h("span", { title: version.parent }, `${name}v${from.version}`);
}

const STATES = {
  starting: ["starting", "warn"], ready: ["ready", "good"], draining: ["draining", "accent"],
  restarting: ["restarting", "warn"], refused: ["refused", "bad"],
};

function showDeployments(deployments, slots) {
  show("deployments", [deployments, slots], () => {
    if (deployments.length + slots.length === 0) {
      return empty("Nothing is deployed. ", h("code", {}, "bms deploy MODEL"), " loads the version its alias points at.");
    }
    const names = [...new Set([...deployments, ...slots].map((entry) => entry.model))].sort();
    return names.map((name) => {
      const deployment = deployments.find((d) => d.model === name);
      const follows = deployment
        ? [h("span", { class: "muted small" }, "follows"), chip(deployment.alias, "accent"), h("span", { class: "muted small" }, deployment.version == null ? "" : `→ v${deployment.version}`)]
        : [h("span", { class: "muted small" }, "no longer deployed")];
      return h("div", { class: "group" },
        h("div", { class: "group-head" }, h("h3", {}, name), follows),
        deployment?.problem && h("p", { class: "small" }, chip("problem", "bad"), ` ${deployment.problem}`),
        slotTable(name, slots.filter((slot) => slot.model === name)));
    });
  });
}

function slotTable(name, slots) {
  if (slots.length === 0) return empty("No slot is running.");
  const columns = [["Slot", "lead nowrap"], ["State", ""], ["Process", ""], ["Run-time", ""], ["Requests", "number"], ["Restarts", "number"], ["Memory", "number"]];
  return table(`Slots of ${name}`, columns, slots.map((slot) => {
    const [label, kind] = STATES[slot.state] ?? [String(slot.state), ""];
    const state = slot.progress?.moving === false ? chip("standing still", "bad") : chip(label, kind);
    const process = slot.worker ? `on ${slot.worker}` : slot.pid == null ? "–" : String(slot.pid);
    return [`v${slot.version}`, state, process, slot.runtime ?? "–",
      count(slot.requests), slot.restarts > 0 ? chip(count(slot.restarts), "warn") : "0", bytes(slot.resident_bytes)];
  }));
}

const isOnline = (node) => now() - node.seen_ms < NODE_SILENT_MS;

function showNodes(nodes, samples) {
  const waiting = samples.unlabelled > 0 ? `${count(samples.unlabelled)} waiting for a label` : "all labelled";
  show("nodes", [nodes, nodes.map(isOnline), samples], () => [
    nodes.length === 0
      ? empty("No edge node has joined. ", h("code", {}, "bms edge"), " runs one.")
      : table("Edge nodes", [["Node", "lead"], ["State", ""], ["Runs", "nowrap"], ["Answers", "number"], ["Offline", "number"], ["Outbox", "number"], ["Last seen", "nowrap"]],
        nodes.map((node) => [
          [node.name, node.report.problem && h("span", { class: "problem" }, node.report.problem)],
          isOnline(node) ? chip("online", "good") : chip("silent", "warn"),
          node.report.version == null ? `${node.report.model} –` : `${node.report.model} v${node.report.version}`,
          count(node.report.answers), count(node.report.offline_answers),
          node.report.outbox > 0 ? chip(count(node.report.outbox), "warn") : "0",
          time(node.seen_ms),
        ])),
    samples.total > 0 && h("p", { class: "muted small" }, `${count(samples.total)} hard samples from the edge, ${waiting}.`),
  ].filter(Boolean));
}

function showQuarantine(entries) {
  show("quarantine", entries, () => {
    if (entries.length === 0) return empty("Nothing was refused.");
    const more = entries.length - QUARANTINE_SHOWN;
    return [
      h("ul", { class: "list" }, entries.slice(0, QUARANTINE_SHOWN).map((entry) =>
        h("li", {}, h("div", { class: "line" }, chip(entry.code, "bad"), h("strong", {}, entry.model), time(entry.at_ms)), h("p", { class: "small" }, entry.reason)))),
      more > 0 && h("p", { class: "muted small" }, `and ${count(more)} more`),
    ].filter(Boolean);
  });
}

/** A subject; digests are cut, the whole is in the title. */
const subject = (text) => (/^[0-9a-f]{64}$/.test(text) ? h("span", { class: "mono", title: text }, `${short(text)}…`) : h("span", { class: "subject" }, text));

const open = new Set();

function showEvents(events, verified) {
  const newest = [...events].sort((a, b) => b.sequence - a.sequence);
  show("events", [newest, verified], () => {
    if (newest.length === 0) return empty("No events yet.");
    const broken = "An event was changed, dropped or cut off. Run bms audit to see where, and compare with a backup.";
    return [!verified && h("p", { class: "broken" }, broken), h("ol", { class: "events", reversed: true }, newest.map((event) => {
      const toggled = (e) => (e.target.open ? open.add(event.hash) : open.delete(event.hash));
      const kind = /refused|corrupt|crash|tamper/.test(event.action) ? "bad" : "";
      return h("li", {}, h("details", { open: open.has(event.hash), ontoggle: toggled },
        h("summary", { "data-key": event.hash }, h("span", { class: "muted number small" }, `#${event.sequence}`), chip(event.action, kind), subject(event.subject), time(event.at_ms)),
        h("pre", { class: "mono" }, `${JSON.stringify(event.details, null, 2)}\nhash ${event.hash}`)));
    }))].filter(Boolean);
  });
  const chain = $("chain");
  chain.hidden = events.length === 0;
  chain.className = `pill ${verified ? "good" : "bad"}`;
  chain.textContent = verified ? "✓ audit chain verified" : "✗ audit chain broken";
}

/** A round number that is not below `value`, for the top of the scale. */
function niceCeiling(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

function showTraffic(traffic) {
  const rates = traffic.requests_per_second.map((rate) => (finite(rate) ? rate : 0));
  const last = rates.at(-1) ?? 0;
  const top = niceCeiling(Math.max(...rates, 0));
  const [width, height] = [590, 120];
  const points = rates.map((rate, i) => `${((i * width) / Math.max(1, rates.length - 1)).toFixed(1)},${(height - 2 - (rate / top) * (height - 6)).toFixed(1)}`);
  $("chart-line").setAttribute("points", points.join(" "));
  $("chart-area").setAttribute("points", `0,${height} ${points.join(" ")} ${width},${height}`);
  $("chart-max").textContent = `${count(top)} / s`;
  $("chart-title").textContent = `Requests per second over the last minute: now ${count(last)}, at most ${count(Math.max(...rates, 0))}`;
  // Both are of the last minute, and 0 when nothing was asked in it.
  const latency = (value) => (value > 0 ? milliseconds(value) : "–");
  $("tile-rate").textContent = count(Math.round(last * 10) / 10);
  $("tile-p50").textContent = latency(traffic.p50_ms);
  $("tile-p99").textContent = latency(traffic.p99_ms);
  $("tile-errors").replaceChildren(count(traffic.errors), h("small", {}, ` of ${count(traffic.total)}`));
  $("tile-errors").classList.toggle("alarm", traffic.errors > 0);
}

/** `part` of `whole`; less than all of it deserves a look. */
function showTile(id, part, whole) {
  $(id).replaceChildren(count(part), h("small", {}, ` of ${count(whole)}`));
  $(id).classList.toggle("alarm", part < whole);
}

function showOverview(state) {
  $("about").textContent = `${state.version} · up ${duration(state.uptime_seconds)}`;
  showTraffic(state.traffic);
  // A slot that finishes its last requests is no lack.
  const slots = state.slots.filter((slot) => slot.state !== "draining");
  showTile("tile-slots", slots.filter((slot) => slot.state === "ready").length, slots.length);
  showTile("tile-nodes", state.nodes.filter(isOnline).length, state.nodes.length);
  showModels(state.models);
  showDeployments(state.deployments, state.slots);
  showNodes(state.nodes, state.samples);
  showQuarantine(state.quarantine);
  showEvents(state.audit, state.audit_verified);
  offerModels(state);
  for (const element of document.querySelectorAll("time[data-at]")) {
    const text = ago(Number(element.dataset.at));
    if (element.textContent !== text) element.textContent = text;
  }
}

// ---- polling --------------------------------------------------------------------------------------

let lastAnswer = 0;

function connected() {
  lastAnswer = Date.now();
  document.body.classList.remove("lost");
  $("banner").hidden = true;
  $("link").className = "pill good";
  $("link").textContent = "live";
}

function disconnected(why) {
  document.body.classList.add("lost");
  const since = lastAnswer ? ` What you see is ${duration((Date.now() - lastAnswer) / 1000)} old.` : "";
  $("banner").textContent = `${why}${since} Trying again every second.`;
  $("banner").hidden = false;
  $("link").className = "pill bad";
  $("link").textContent = "disconnected";
}

/** The server answers, but not to whoever looks. */
function kept(why) {
  disconnected("");
  $("banner").textContent = `${why} Enter another key above.`;
  $("link").textContent = "no access";
}

async function poll() {
  let state;
  try {
    const response = await fetch("/api/v1/overview", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.status === 401 || response.status === 403) return kept(await failure(response));
    if (!response.ok) throw new Error(await failure(response));
    const date = Date.parse(response.headers.get("date") ?? "");
    // The header has whole seconds; smaller differences are its rounding.
    clockAhead = Number.isNaN(date) || Math.abs(date - Date.now()) < 2500 ? 0 : date - Date.now();
    state = await response.json();
  } catch (error) {
    const isNetwork = error instanceof TypeError || error.name === "TimeoutError";
    return disconnected(isNetwork ? "The server does not answer." : error.message);
  }
  connected();
  try {
    showOverview(state);
  } catch (error) {
    disconnected(`The server's answer could not be shown: ${error.message}.`);
  }
}

/** What a failed response says, as a sentence with the server's advice. */
async function failure(response) {
  const body = await response.json().catch(() => null);
  const what = typeof body?.error === "string" ? body.error : `status ${response.status}`;
  return `The server refused: ${what}.${typeof body?.hint === "string" ? ` ${body.hint}` : ""}`;
}

async function keepPolling() {
  // A page nobody looks at asks for nothing.
  if (!document.hidden) await poll();
  setTimeout(keepPolling, POLL_MS);
}

// ---- playground -----------------------------------------------------------------------------------

const PEN = 22;
const pad = $("pad");
const ink = pad.getContext("2d", { alpha: false, willReadFrequently: true });
/** What is on the pad: nothing, strokes, or a picture as it was given. */
let content = { kind: "nothing" };
let sizes = new Map();
let asked = 0;
let timer = 0;

function offerModels(state) {
  const images = state.deployments.filter((d) => {
    const version = state.models.find((m) => m.name === d.model)?.versions.find((v) => v.version === d.version);
    return version?.task === "image-classification";
  });
  const names = images.map((d) => d.model);
  show("play-model", names, () => names.map((name) => h("option", { value: name, selected: name === $("play-model").value }, name)));
  $("play").hidden = names.length === 0;
  $("play-none").hidden = names.length > 0;
  // A new version may take pictures of another size.
  sizes = new Map([...sizes].filter(([key]) => images.some((d) => key === `${d.model}@${d.version}`)));
  offerModels.versions = new Map(images.map((d) => [d.model, `${d.model}@${d.version}`]));
}

const colours = () => ($("play-invert").checked ? ["#fff", "#000"] : ["#000", "#fff"]);

function clearPad() {
  content = { kind: "nothing" };
  asked += 1;
  clearTimeout(timer);
  ink.fillStyle = colours()[0];
  ink.fillRect(0, 0, pad.width, pad.height);
  pad.parentElement.classList.toggle("paper", $("play-invert").checked);
  $("pad-hint").hidden = false;
  $("seen-as").hidden = true;
  answer([], "");
}

function answer(ranked, note, failed) {
  $("play-answer").replaceChildren(...ranked.slice(0, ANSWERS_SHOWN).map(([label, probability]) => {
    const fill = h("div", { class: "fill" });
    fill.style.width = `${(100 * Math.max(0, Math.min(1, probability))).toFixed(1)}%`;
    return h("li", {}, h("span", { class: "label" }, label), h("span", { class: "number" }, `${(100 * probability).toFixed(1)} %`),
      h("div", { class: "track", "aria-hidden": "true" }, fill));
  }));
  $("play-note").textContent = note;
  $("play-note").classList.toggle("failed", Boolean(failed));
}

/** Width and height of the model's input, 28 × 28 when it does not say. */
async function inputOf(model) {
  const key = offerModels.versions.get(model);
  if (!sizes.has(key)) {
    const response = await fetch(`/v2/models/${encodeURIComponent(model)}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(await failure(response));
    const input = (await response.json()).inputs[0];
    const [height, width] = input.shape.length === 4 ? input.shape.slice(-2) : [-1, -1];
    const side = (value) => (value > 0 && value <= 512 ? value : 28);
    sizes.set(key, { name: input.name, width: side(width), height: side(height) });
  }
  return sizes.get(key);
}

/** The drawing as a classifier of handwriting knows it: cut out, centred and scaled to the model's input. */
function drawing(width, height) {
  const pixels = ink.getImageData(0, 0, pad.width, pad.height).data;
  const paper = $("play-invert").checked ? 255 : 0;
  let [left, top, right, bottom] = [pad.width, pad.height, 0, 0];
  for (let y = 0; y < pad.height; y += 1) {
    for (let x = 0; x < pad.width; x += 1) {
      if (Math.abs(pixels[4 * (y * pad.width + x)] - paper) < 32) continue;
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    }
  }
  const small = $("seen");
  [small.width, small.height] = [width, height];
  const context = small.getContext("2d", { alpha: false });
  context.fillStyle = colours()[0];
  context.fillRect(0, 0, width, height);
  if (right < left) return small;
  // Sets of tiny digits fill the frame; those of 28 pixels leave a margin of four on each side.
  const share = Math.min(width, height) < 16 ? 1 : 20 / 28;
  const scale = Math.min((share * width) / (right - left + 1), (share * height) / (bottom - top + 1));
  const [w, h2] = [(right - left + 1) * scale, (bottom - top + 1) * scale];
  context.imageSmoothingQuality = "high";
  context.drawImage(pad, left, top, right - left + 1, bottom - top + 1, (width - w) / 2, (height - h2) / 2, w, h2);
  return small;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Flat data of the output called `name`; a server may nest it by rows. */
const outputOf = (response, name) => response.outputs?.find((output) => output.name === name)?.data?.flat(Infinity);

async function classify() {
  const turn = ++asked;
  const model = $("play-model").value;
  try {
    const input = await inputOf(model);
    let picture = content.picture;
    if (content.kind === "drawing") {
      const small = drawing(input.width, input.height);
      picture = await new Promise((resolve) => small.toBlob(resolve, "image/png"));
      $("seen-as").hidden = false;
    }
    const body = { inputs: [{ name: input.name, shape: [1], datatype: "BYTES", data: [await base64(picture)] }] };
    const began = performance.now();
    const response = await fetch(`/v2/models/${encodeURIComponent(model)}/infer`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(await failure(response));
    const result = await response.json();
    const took = performance.now() - began;
    if (turn !== asked) return;
    const [labels, probabilities] = [outputOf(result, "label"), outputOf(result, "probability")];
    if (!labels || !probabilities) throw new Error("The model answered with tensors only.");
    const ranked = labels.map((label, i) => [String(label), Number(probabilities[i])]).sort((a, b) => b[1] - a[1]);
    answer(ranked, `${result.model_version ? `version ${result.model_version} · ` : ""}${milliseconds(took)} round trip`);
  } catch (error) {
    if (turn === asked) answer([], error.name === "TimeoutError" || error instanceof TypeError ? "The server did not answer." : error.message, true);
  }
}

async function takePicture(file) {
  if (!file) return;
  clearPad();
  if (!["image/png", "image/jpeg"].includes(file.type)) return answer([], "Only PNG and JPEG pictures can be sent.", true);
  if (file.size > PICTURE_BYTES_MAX) return answer([], `The picture has ${bytes(file.size)}, at most ${bytes(PICTURE_BYTES_MAX)} can be sent.`, true);
  content = { kind: "picture", picture: file };
  $("pad-hint").hidden = true;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap) {
    const scale = Math.min(pad.width / bitmap.width, pad.height / bitmap.height);
    const [w, h2] = [bitmap.width * scale, bitmap.height * scale];
    ink.imageSmoothingEnabled = scale < 1;
    ink.drawImage(bitmap, (pad.width - w) / 2, (pad.height - h2) / 2, w, h2);
  }
  // Also what this page cannot show is sent: the server's refusal is worth seeing.
  classify();
}

function startPlayground() {
  let from = null;
  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  const stroke = (to) => {
    [ink.strokeStyle, ink.lineWidth, ink.lineCap, ink.lineJoin] = [colours()[1], PEN, "round", "round"];
    ink.beginPath();
    ink.moveTo(...from);
    ink.lineTo(...to);
    ink.stroke();
    from = to;
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (content.kind !== "drawing") clearPad();
    content = { kind: "drawing" };
    $("pad-hint").hidden = true;
    pad.setPointerCapture(event.pointerId);
    from = at(event);
    stroke(from);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!from) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) stroke(at(step));
  });
  const lift = () => {
    if (!from) return;
    from = null;
    clearTimeout(timer);
    timer = setTimeout(classify, 200);
  };
  pad.addEventListener("pointerup", lift);
  pad.addEventListener("pointercancel", lift);

  const box = pad.parentElement;
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    takePicture(event.dataTransfer.files[0]);
  });
  $("play-file").addEventListener("change", (event) => {
    takePicture(event.target.files[0]);
    // The same file can be chosen again.
    event.target.value = "";
  });
  $("play-clear").addEventListener("click", clearPad);
  $("play-invert").addEventListener("change", clearPad);
  $("play-model").addEventListener("change", () => content.kind !== "nothing" && classify());
  clearPad();
}

startPlayground();
keepPolling();
