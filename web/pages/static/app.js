// What a page does with script; each of it works without, but for what can only be live. The page's markup says what
// there is: [data-topic] may change, [data-row] is a row for j and k, [data-copy] a button that copies, <time> a moment.
"use strict";
document.documentElement.classList.add("js");
const MAIN = "main";
const main = () => document.getElementById(MAIN);

// -- moments: the page has them in UTC, the reader may have them in the browser's zone -------------------------------

const SHORT = { date: 10, time: 19, moment: 19, full: 23 };
const isLocal = () => localStorage.getItem("zone") === "local";

function inWords(moment, how, local) {
  const shifted = local ? new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000) : moment;
  const text = shifted.toISOString().replace("T", " ").slice(0, SHORT[how] ?? 19);
  return how === "time" ? text.slice(11) : text;
}

function tellTimes(within) {
  const local = isLocal();
  for (const time of within.querySelectorAll("time[datetime]")) {
    const text = inWords(new Date(time.dateTime), time.dataset.how, local);
    if (time.textContent !== text) time.textContent = text;
  }
  for (const zone of within.querySelectorAll("[data-zone]")) zone.textContent = local ? "local" : "UTC";
}

function setUpZone() {
  const button = document.getElementById("zone");
  if (!button) return; // where one logs in
  const show = () => {
    button.textContent = isLocal() ? "Local time" : "UTC";
    button.setAttribute("aria-pressed", String(isLocal()));
    tellTimes(document);
  };
  button.addEventListener("click", () => {
    localStorage.setItem("zone", isLocal() ? "utc" : "local");
    show();
  });
  show();
}

// -- live: one connection says that something changed; htmx takes the page again and morphs its main part ------------

let source = null;
let isAsking = false;
let isDue = false;

function sayStale(why) {
  const stale = document.getElementById("stale");
  stale.hidden = !why;
  stale.textContent = why;
}

// A button that is pressed must still be there when it is let go, and so must what is being selected.
function isInHand() {
  const selection = getSelection();
  const isSelecting = selection !== null && !selection.isCollapsed && main().contains(selection.anchorNode);
  return isSelecting || main().querySelector("button:active, a:active, summary:active") !== null;
}

async function refresh() {
  if (document.hidden || !main().dataset.topic) return;
  if (isAsking || isInHand()) {
    isDue = true;
    return;
  }
  isAsking = true;
  isDue = false;
  const url = location.pathname + (main().dataset.query ?? location.search);
  try {
    await htmx.ajax("GET", url, { source: `#${MAIN}`, target: `#${MAIN}`, select: `#${MAIN}`, swap: "outerMorph" });
  } finally {
    isAsking = false;
  }
  if (isDue) setTimeout(refresh, 300);
}

function listen() {
  const topic = main().dataset.topic;
  const wanted = topic && !document.hidden ? `${document.body.dataset.live}?of=${encodeURIComponent(topic)}` : "";
  if (source && source.wanted === wanted) return;
  source?.close();
  source = null;
  if (!wanted) return;
  source = new EventSource(wanted);
  source.wanted = wanted;
  source.onmessage = (message) => {
    const { error } = JSON.parse(message.data);
    if (error) sayStale(`not live: ${error}`);
    else refresh();
  };
  source.onerror = () => {
    sayStale("not live: the site does not answer");
    if (source.readyState === EventSource.CLOSED) refresh(); // it has refused: the session may be over
  };
}

function setUpLive() {
  htmx.registerExtension("stepstream", {
    // What the reader has opened stays open, and what is being filled in stays as it is.
    htmx_before_morph_attr: (element, { attrName }) => !(element.tagName === "DETAILS" && attrName === "open"),
    htmx_before_morph_node: (element) => !element.matches?.("form[data-touched], dialog[open]"),
  });
  document.addEventListener("htmx:before:response", ({ detail }) => {
    const { status } = detail.ctx.response;
    sayStale(status < 400 ? "" : `not live: the site answers ${status}`);
  });
  document.addEventListener("htmx:error", () => sayStale("not live: the site does not answer"));
  document.addEventListener("htmx:after:swap", () => {
    tellTimes(main());
    listen();
  });
  document.addEventListener("selectionchange", () => isDue && !isInHand() && refresh());
  document.addEventListener("visibilitychange", () => {
    listen();
    refresh();
  });
  document.addEventListener("input", ({ target }) => target.form?.setAttribute("data-touched", ""));
  listen();
}

// -- forms and copying -----------------------------------------------------------------------------------------------

function setUpForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault(); // pressed twice; the server would do it once, too
    form.dataset.sent = "yes";
  });
  // A page that comes back from the browser's memory may be sent again.
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// -- choosing rows: their boxes belong to a form of their own, so the list goes on being live ------------------------

const boxesOf = (form) => [...document.querySelectorAll(`[data-row] input[form="${form}"]`)];

function tellChosen() {
  for (const form of document.querySelectorAll("form[data-choose]")) {
    const count = boxesOf(form.id).filter((box) => box.checked).length;
    for (const words of form.querySelectorAll("[data-chosen]")) {
      words.textContent = `${count} chosen`;
      words.closest("button").disabled = count === 0;
    }
  }
}

function setUpChoosing() {
  document.addEventListener("change", ({ target }) => {
    if (target.dataset.all) for (const box of boxesOf(target.dataset.all)) box.checked = target.checked;
    tellChosen();
  });
  document.addEventListener("htmx:after:swap", tellChosen);
  addEventListener("pageshow", tellChosen); // a browser that goes back remembers what was chosen
  tellChosen();
}

// -- keys ------------------------------------------------------------------------------------------------------------

const linkOf = (row) => row.querySelector("a[href]");
const rows = () => [...document.querySelectorAll("[data-row]")].filter(linkOf); // one without would hold j back

function step(by) {
  const all = rows();
  if (!all.length) return;
  const here = all.findIndex((row) => row.contains(document.activeElement));
  const next = here < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, here + by));
  linkOf(all[next])?.focus();
}

function mark() {
  const row = rows().find((one) => one.contains(document.activeElement));
  row?.querySelector("input[type=checkbox]")?.click();
}

const follow = (key) => () => main().querySelector(`a[data-key="${key}"]`)?.click();

const KEYS = {
  "+": follow("+"),
  "-": follow("-"),
  0: follow("0"),
  h: follow("h"),
  l: follow("l"),
  j: () => step(1),
  k: () => step(-1),
  x: mark,
  "/": () => document.getElementById("search")?.focus(),
  "?": () => document.getElementById("keys").showModal(),
};

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), textarea, select")) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

// -- a closer look at the time of a run, by dragging over its bars -----------------------------------------------------

const SHORTEST_DRAG = 8; // pixels; less is a click

function momentAt(moments, place) {
  const next = Math.max(1, moments.findIndex(([at]) => at >= place));
  const [[low, begin], [high, end]] = [moments[next - 1], moments[next]];
  return Math.round(begin + ((end - begin) * (place - low)) / (high - low || 1));
}

function setUpDragging() {
  let drag = null;
  const placeOf = (event, { left, width }) => Math.min(1000, Math.max(0, ((event.clientX - left) * 1000) / width));
  document.addEventListener("pointerdown", (event) => {
    const bar = event.target.closest?.("[data-moments] svg.bar");
    if (!bar || event.button !== 0 || event.pointerType === "touch") return;
    const box = bar.getBoundingClientRect();
    const shade = document.createElement("div");
    shade.className = "drag";
    drag = { box, shade, from: event.clientX, moments: JSON.parse(bar.closest("[data-moments]").dataset.moments) };
    document.body.append(shade);
    event.preventDefault(); // nothing is selected meanwhile
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [low, high] = [drag.from, event.clientX].sort((a, b) => a - b);
    Object.assign(drag.shade.style, {
      left: `${Math.max(low, drag.box.left) + scrollX}px`,
      width: `${Math.max(0, Math.min(high, drag.box.right) - Math.max(low, drag.box.left))}px`,
      top: `${drag.box.top + scrollY}px`,
      height: `${drag.box.height}px`,
    });
  });
  const end = (event) => {
    if (!drag) return;
    const { shade, box, from, moments } = drag;
    drag = null;
    shade.remove();
    if (event.type !== "pointerup" || Math.abs(event.clientX - from) < SHORTEST_DRAG) return;
    const places = [placeOf({ clientX: from }, box), placeOf(event, box)].sort((a, b) => a - b);
    const [begin, finish] = places.map((place) => momentAt(moments, place));
    location.assign(`${location.pathname}?from=${begin}&to=${Math.max(finish, begin + 1)}#steps`);
  };
  document.addEventListener("pointerup", end);
  document.addEventListener("pointercancel", end);
}

setUpZone();
setUpDragging();
setUpForms();
setUpKeys();
setUpChoosing();
setUpLive();
