// While something may still change, take the page again once a second and put its main part in place of ours.
// What the reader has opened stays open; a tab nobody looks at does not ask.
"use strict";
const main = document.getElementById("main");
const stale = document.getElementById("stale");

// A button that is pressed must still be there when it is let go, and so must what is being selected.
function isInHand() {
  const selection = getSelection();
  return main.querySelector(":active") !== null || (selection !== null && !selection.isCollapsed);
}

async function refresh() {
  if (document.hidden || main.dataset.live !== "yes" || isInHand()) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(5000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("main");
    if (!next) throw new Error("no page");
    if (isInHand()) return; // since we asked
    const opened = [...main.querySelectorAll("details")].map((element) => element.open);
    next.querySelectorAll("details").forEach((element, place) => { element.open = Boolean(opened[place]); });
    if (next.innerHTML !== main.innerHTML) main.replaceChildren(...next.childNodes);
    main.dataset.live = next.dataset.live;
    document.title = page.title;
    document.querySelector(".trail").replaceChildren(...page.querySelector(".trail").childNodes);
    stale.hidden = true;
  } catch {
    stale.hidden = false;
  }
}

async function forever() {
  await refresh();
  setTimeout(forever, 1000);
}
setTimeout(forever, 1000);
