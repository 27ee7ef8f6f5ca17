"use strict";
// The key for a server that asks for one: asked for once, kept for as long as the tab is open, sent with every request of
// this page to its own server.

(() => {
  const KEPT = "bms-key";
  const RETRY_MS = 8000;
  const plain = window.fetch.bind(window);
  /** The answer of whoever is being asked right now: a key, or null. */
  let asking = null;
  /** Nobody is asked again who gave none, but for by the button. */
  let refused = false;

  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  /** Asks for a key, saying why, and gives it once it was entered; null when none was. */
  function ask(why) {
    asking ??= new Promise((resolve) => {
      const input = element("input", { id: "key-input", type: "password", autocomplete: "off", spellcheck: false,
        placeholder: "bms_…", required: true });
      const cancel = element("button", { type: "button", className: "quiet" }, "Not now");
      const form = element("form", { method: "dialog" },
        element("h2", {}, "This server needs a key"),
        element("p", { id: "key-why", role: "alert" }, why),
        element("label", { htmlFor: "key-input" }, "Key"), input,
        element("p", { className: "muted small" }, "It is kept until this tab is closed. Whoever runs the server makes one with ",
          element("code", {}, "bms key create"), "."),
        element("div", { className: "actions" }, cancel, element("button", { type: "submit" }, "Use this key")));
      const dialog = element("dialog", { className: "key" }, form);
      const done = (key) => {
        asking = null;
        refused = key === null;
        if (key) sessionStorage.setItem(KEPT, key);
        dialog.remove();
        offer();
        resolve(key);
      };
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const key = input.value.trim();
        if (key) done(key);
      });
      cancel.addEventListener("click", () => done(null));
      dialog.addEventListener("cancel", () => done(null));
      document.body.append(dialog);
      dialog.showModal();
      input.focus();
    });
    return asking;
  }

  /** A button for another key, once this server has been found to want one. */
  function offer() {
    if (document.getElementById("key-change")) return;
    const change = async () => {
      if (await ask("Requests of this page are sent with the key you enter.")) window.location.reload();
    };
    const button = element("button", { id: "key-change", type: "button", className: "link" }, "Key…");
    button.addEventListener("click", change);
    document.querySelector("header")?.append(button);
  }

  function send(resource, options, key) {
    const headers = new Headers(options.headers);
    // What cannot stand in a header is no key; the server says so.
    if (key) headers.set("authorization", `Bearer ${key.replace(/[^\x21-\x7e]/g, "?")}`);
    return plain(resource, { ...options, headers });
  }

  /** What a response says, as a sentence. */
  async function reason(response) {
    const body = await response.clone().json().catch(() => null);
    const text = typeof body?.error === "string" ? body.error : body?.error?.message;
    return `The server says: ${text ?? `status ${response.status}`}.`;
  }

  window.fetch = async (resource, options = {}) => {
    const sent = sessionStorage.getItem(KEPT);
    let response = await send(resource, options, sent);
    if (sent) offer();
    let tried = sent;
    while (response.status === 401) {
      // Another request may have asked meanwhile.
      const kept = sessionStorage.getItem(KEPT);
      if (tried && kept === tried) sessionStorage.removeItem(KEPT);
      if (refused) return response;
      tried = kept && kept !== tried ? kept : await ask(await reason(response));
      if (!tried) return response;
      // The time for the first try ran while somebody typed.
      const isLate = options.signal?.aborted && options.signal.reason?.name === "TimeoutError";
      response = await send(resource, isLate ? { ...options, signal: AbortSignal.timeout(RETRY_MS) } : options, tried);
    }
    return response;
  };
})();
