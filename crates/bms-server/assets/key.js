"use strict";
// The key for a server that asks for one: asked for once, kept for as long as the tab is open, sent with every request of
// this page to its own server.

(() => {
  const KEPT = "bms-key";
  const plain = window.fetch.bind(window);
  let asked = false;

  /** Asks once; whoever gives none is asked again when the page is loaded again. */
  function ask() {
    if (asked) return null;
    asked = true;
    const key = window.prompt("This server needs a key (bms_…). It is kept until this tab is closed.")?.trim();
    if (!key) return null;
    sessionStorage.setItem(KEPT, key);
    asked = false;
    return key;
  }

  function send(resource, options, key) {
    const headers = new Headers(options.headers);
    if (key) headers.set("authorization", `Bearer ${key}`);
    return plain(resource, { ...options, headers });
  }

  window.fetch = async (resource, options = {}) => {
    const sent = sessionStorage.getItem(KEPT);
    const response = await send(resource, options, sent);
    if (response.status !== 401) return response;
    // Another request may have asked meanwhile.
    const kept = sessionStorage.getItem(KEPT);
    if (sent && kept === sent) sessionStorage.removeItem(KEPT);
    const key = kept && kept !== sent ? kept : ask();
    return key ? send(resource, options, key) : response;
  };
})();
