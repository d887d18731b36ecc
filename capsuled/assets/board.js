// What pages do beyond HTML: ages that go on, focus that stays with a moved card, a log that stays short,
// keys. Everything works without it.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const LOG_MAX = 1 << 20;
  const byId = (id) => document.getElementById(id);

  // Ages.
  const span = (ms) => {
    const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60);
    if (s < 60) return `${s}s`;
    if (m < 60) return `${m}m ${s % 60}s`;
    if (h < 24) return `${h}h ${m % 60}m`;
    return `${Math.floor(h / 24)}d ${h % 24}h`;
  };
  const age = () => {
    if (document.hidden) return;
    const now = Date.now();
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = Date.parse(time.dateTime);
      if (Number.isNaN(at)) continue;
      const told = time.classList.contains("running") ? span(Math.max(0, now - at))
        : at > now ? `in ${span(at - now)}` : `${span(now - at)} ago`;
      if (time.textContent !== told) time.textContent = told;
    }
  };
  setInterval(age, 1000);
  age();

  // Whether changes come.
  const live = (word, lost) => {
    const sign = byId("live");
    if (!sign) return;
    sign.hidden = false;
    sign.classList.toggle("lost", lost);
    byId("live-word").textContent = word;
  };
  document.addEventListener("htmx:sse:after:connection", () => live("live", false));
  document.addEventListener("htmx:sse:error", (event) => {
    const refused = event.detail && event.detail.status === 401;
    live(refused ? "not in any more" : "connecting again", true);
  });
  document.addEventListener("htmx:sse:before:connection", (event) => {
    if (event.detail.connection.attempt > 0) live("connecting again", true);
  });

  // A card that moves keeps the focus, a log that grows its end and its bounds.
  let focused = null, atEnd = false;
  document.addEventListener("htmx:before:swap", () => {
    focused = document.activeElement && document.activeElement.id;
    const log = byId("log");
    atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  });
  document.addEventListener("htmx:after:swap", () => {
    if (focused && document.activeElement === document.body) {
      const again = byId(focused) || byId("main");
      again.focus({ preventScroll: true });
    }
    const log = byId("log");
    if (log) {
      let size = log.textContent.length;
      while (size > LOG_MAX && log.firstChild) {
        size -= log.firstChild.textContent.length;
        log.firstChild.remove();
      }
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
    age();
  });
  const log = byId("log");
  if (log) log.scrollTop = log.scrollHeight;

  // What was refused is said.
  document.addEventListener("htmx:after:request", (event) => {
    const context = event.detail && event.detail.ctx;
    const response = context && context.response;
    if (!response || response.status < 400) return;
    const text = new DOMParser().parseFromString(context.text || "", "text/html").querySelector("main p");
    byId("said").textContent = text ? text.textContent : `refused (${response.status})`;
    setTimeout(() => { byId("said").textContent = ""; }, 8000);
  });

  // What is asked about before it is done is asked here, not on a page of its own.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a.asks");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    const page = await fetch(link.href).then((answer) => answer.text()).catch(() => null);
    const parts = page && new DOMParser().parseFromString(page, "text/html");
    const form = parts && parts.querySelector("form.ask");
    if (!form) { location.assign(link.href); return; }
    const dialog = document.createElement("dialog");
    const title = document.createElement("h2");
    title.id = "dialog-title";
    title.textContent = parts.querySelector("h1").textContent;
    dialog.setAttribute("aria-labelledby", title.id);
    dialog.append(title, document.adoptNode(form));
    dialog.addEventListener("close", () => { dialog.remove(); (byId(link.id) || link).focus(); });
    dialog.addEventListener("click", (inside) => {
      if (!inside.target.closest("a.no")) return;
      inside.preventDefault();
      dialog.close();
    });
    document.body.append(dialog);
    dialog.showModal();
  });

  // The theme is set as soon as it is chosen.
  const theme = byId("theme");
  if (theme) theme.addEventListener("change", () => theme.form.submit());

  // Keys, unless something is typed into.
  const cards = () => [...document.querySelectorAll(".card h4 a, tbody th a")];
  document.addEventListener("keydown", (event) => {
    const here = document.activeElement;
    if (event.ctrlKey || event.metaKey || event.altKey || here.matches("input, select, textarea, pre")) return;
    const step = { j: 1, k: -1 }[event.key];
    if (step) {
      const all = cards(), at = all.indexOf(here);
      const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
      if (next) next.focus();
    } else if (event.key === "/" && byId("q")) {
      event.preventDefault();
      byId("q").focus();
    }
  });
})();
