"use strict";
// A conversation with a served language model, over the same protocol every client uses. What the model writes
// enters the page as text, never as markup.

const $ = (id) => document.getElementById(id);
// A new chat takes a new list, so that an answer that was just stopped ends up in the old one.
let history = [];
let asking = null;

/** Whether the page stands at its end: whoever has gone up to read stays there. */
function follows() {
  const page = document.documentElement;
  return page.scrollHeight - page.clientHeight - page.scrollTop < 60;
}

function toEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
}

function turn(role, text) {
  const element = document.createElement("div");
  element.className = `turn ${role}`;
  const thought = document.createElement("p");
  thought.className = "thought muted";
  thought.hidden = true;
  const said = document.createElement("p");
  said.textContent = text;
  element.append(thought, said);
  $("turns").append(element);
  toEnd();
  return { element, thought, said };
}

async function listModels() {
  const response = await fetch("/v1/models");
  const listed = (await response.json()).data ?? [];
  $("model").replaceChildren(...listed.map(({ id }) => new Option(id, id)));
  if (listed.length === 0) $("stats").textContent = "No language model is deployed here.";
}

/** The events of a stream, one after the other. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      yield JSON.parse(line.slice(6));
    }
  }
}

function request() {
  const system = $("system").value.trim();
  const messages = system ? [{ role: "system", content: system }, ...history] : [...history];
  const temperature = $("temperature").value;
  return {
    model: $("model").value, messages, stream: true, stream_options: { include_usage: true },
    temperature: temperature === "" ? undefined : Number(temperature), max_tokens: Number($("tokens").value) || undefined,
  };
}

function stats({ usage, began, first, cut }) {
  if (!usage) return "";
  const seconds = (performance.now() - (first ?? began)) / 1000;
  const speed = seconds > 0 ? ((usage.completion_tokens - 1) / seconds).toFixed(1) : "–";
  const shared = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const wait = first ? `first after ${Math.round(first - began)} ms` : "nothing was said";
  const end = cut ? "; cut off at the limit of tokens" : "";
  return `${usage.prompt_tokens} prompt tokens (${shared} shared), ${usage.completion_tokens} generated; ${wait}, then ${speed} tokens/s${end}`;
}

async function ask(text) {
  const conversation = history;
  conversation.push({ role: "user", content: text });
  turn("user", text);
  const answer = turn("assistant", "");
  asking = new AbortController();
  const told = { began: performance.now(), first: null, usage: null, cut: false };
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(request()), signal: asking.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error?.message ?? response.statusText);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      told.usage = event.usage ?? told.usage;
      told.cut ||= event.choices?.[0]?.finish_reason === "length";
      const delta = event.choices?.[0]?.delta ?? {};
      if (delta.content || delta.reasoning_content) told.first ??= performance.now();
      const following = follows();
      if (delta.reasoning_content) {
        answer.thought.hidden = false;
        answer.thought.append(delta.reasoning_content);
      }
      if (delta.content) answer.said.append(delta.content);
      if (following) toEnd();
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      answer.element.classList.add("broken");
      answer.said.append(`${answer.said.textContent ? " " : ""}${error.message}`);
      conversation.pop();
      return;
    }
  } finally {
    asking = null;
  }
  conversation.push({ role: "assistant", content: answer.said.textContent });
  if (conversation === history) $("stats").textContent = stats(told);
}

async function send(event) {
  event?.preventDefault();
  const text = $("message").value.trim();
  if (asking || !text) return;
  $("message").value = "";
  $("send").hidden = true;
  $("stop").hidden = false;
  $("stats").textContent = "";
  await ask(text);
  $("send").hidden = false;
  $("stop").hidden = true;
  $("message").focus();
}

$("form").addEventListener("submit", send);
$("stop").addEventListener("click", () => asking?.abort());
$("reset").addEventListener("click", () => {
  asking?.abort();
  history = [];
  $("turns").replaceChildren();
  $("stats").textContent = "";
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
listModels().catch((error) => { $("stats").textContent = `The models cannot be listed: ${error.message}`; });
