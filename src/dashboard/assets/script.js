// Keeps the page's fragments live. Everything here is an extra: each page is whole without it.
"use strict";

const line = document.getElementById("live");

// What a person is doing in a fragment must not be taken out of her hands.
const busy = (place) =>
  place.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, button");

function put(name, html) {
  const place = document.getElementById(name);
  if (!place || busy(place)) return;
  const next = document.createElement("div");
  next.innerHTML = html;
  // What was opened stays open, and what is looked at stays in focus.
  const open = [...place.querySelectorAll("details")].map((one) => one.open);
  next.querySelectorAll("details").forEach((one, index) => { one.open = Boolean(open[index]); });
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => one.scrollTop);
  const links = [...place.querySelectorAll("a, summary, [tabindex]")];
  const focused = links.indexOf(document.activeElement);
  place.replaceChildren(...next.childNodes);
  place.querySelectorAll(".scroll").forEach((one, index) => { one.scrollTop = scrolled[index] || 0; });
  if (focused >= 0) place.querySelectorAll("a, summary, [tabindex]")[focused]?.focus({ preventScroll: true });
}

function say(state, word) {
  if (!line) return;
  line.dataset.state = state;
  const text = line.querySelector(".word");
  if (text.textContent !== word) text.textContent = word;
}

const source = document.body.dataset.live;
if (source && window.EventSource) {
  const stream = new EventSource(source);
  stream.addEventListener("open", () => say("on", "live"));
  stream.addEventListener("fragment", (event) => put(event.lastEventId, event.data));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) say("off", "not live: load the page again");
    else say("wait", "connecting");
  });
  window.addEventListener("pagehide", () => stream.close());
}

// A page that the browser kept is older than what it shows; its stream is closed.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}

// Filters apply as they are chosen.
for (const select of document.querySelectorAll(".filters select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// One press is enough for what changes something.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  setTimeout(() => event.target.querySelectorAll("button").forEach((button) => { button.disabled = true; }));
});
