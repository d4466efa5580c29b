// Keeps the worklist fresh, in the server's order, and walks it by keyboard.
import { singleKeys } from "./forms.js";
import { get } from "./shell.js";

const EVERY_MS = 5000;

function start(live) {
  const find = (selector) => live.querySelector(selector);
  const search = document.getElementById("find");
  const link = document.getElementById("link");
  const announce = document.getElementById("announce");
  const keysAct = singleKeys(document.getElementById("single"));
  const rows = () => [...live.querySelectorAll("tbody tr[data-id]")];
  const shown = () => rows().filter((row) => !row.hidden);
  const clock = () => new Date().toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  let etag = live.dataset.etag;
  let last = clock();
  let pressed = false;
  let timer;

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    for (const row of rows()) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    const all = rows().length;
    document.getElementById("found").textContent = wanted
      ? `${shown().length} of ${all} shown` : "";
  }

  /** Put in what came, and leave focus, text filter and scrolling where they were. */
  function swap(fresh) {
    const before = new Map(rows().map((row) => [row.dataset.id, row.dataset.style]));
    const focus = document.activeElement?.closest("tr[data-id]");
    const place = shown().indexOf(focus);
    const anchor = focus ?? find("tr[data-id]:hover")
      ?? shown().find((row) => row.getBoundingClientRect().top > 0);
    const top = anchor?.getBoundingClientRect().top;
    for (const part of ["tbody", ".counts", ".more"]) find(part).replaceWith(fresh.querySelector(part));
    const came = rows().filter((row) => !before.has(row.dataset.id));
    for (const row of came) row.classList.add("fresh");
    filter();
    const row = (id) => rows().find((each) => each.dataset.id === id);
    if (focus) (row(focus.dataset.id) ?? shown()[Math.min(place, shown().length - 1)])
      ?.querySelector("a").focus({ preventScroll: true });
    const now = anchor && row(anchor.dataset.id);
    if (now && scrollY > 0) scrollBy({ top: now.getBoundingClientRect().top - top, behavior: "instant" });
    tell(came, rows().filter((each) => before.has(each.dataset.id)
      && each.dataset.style === "urgent" && before.get(each.dataset.id) !== "urgent"));
  }

  function tell(came, risen) {
    const urgent = came.filter((row) => row.dataset.style === "urgent").length;
    const says = [];
    if (came.length) says.push(`${came.length} new ${came.length === 1 ? "study" : "studies"}`);
    if (urgent) says.push(`${urgent} urgent`);
    if (risen.length) says.push(`${risen.length} now urgent`);
    if (says.length) announce.textContent = says.join(", ");
  }

  function alive() {
    last = clock();
    link.classList.remove("lost");
    const says = `Live: looks for changes every ${EVERY_MS / 1000} s`;
    if (link.textContent !== says) link.textContent = says;
  }

  function lost(why) {
    link.classList.add("lost");
    const says = `Updates stopped at ${last}; what you see may be old. ${why}`;
    if (link.textContent !== says) link.textContent = says;
  }

  async function look() {
    clearTimeout(timer);
    if (!live.isConnected) return;
    try {
      const answer = await get(live.dataset.lines + location.search, { headers: { "If-None-Match": etag } });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("live");
        if (!fresh) throw new Error("no lines");
        etag = answer.headers.get("ETag") ?? fresh.dataset.etag;
        if (pressed) await new Promise((done) => addEventListener("pointerup", () => setTimeout(done), { once: true }));
        swap(fresh);
      }
      if (answer.ok || answer.status === 304) alive();
      else if (answer.status === 401 || answer.status === 403) lost("The session has ended: sign in again.");
      else lost("Trying again.");
    } catch {
      lost("The server cannot be reached. Trying again.");
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, EVERY_MS);
  }

  function walk(by) {
    const all = shown();
    const at = all.indexOf(document.activeElement?.closest("tr[data-id]"));
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
    next?.querySelector("a").focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  const steps = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 };
  document.body.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key.length === 1 && !keysAct()) return;
    if (event.target === search && event.key !== "ArrowDown") return;
    if (event.target.matches("select, input:not(#find), textarea")) return;
    if (event.key === "/") search.focus();
    else if (steps[event.key]) walk(steps[event.key]);
    else return;
    event.preventDefault();
  });
  search.addEventListener("input", filter);
  live.addEventListener("pointerdown", () => { pressed = true; });
  for (const name of ["pointerup", "pointercancel"])
    document.body.addEventListener(name, () => { pressed = false; });
  const woken = () => {
    if (!live.isConnected) return document.removeEventListener("visibilitychange", woken);
    clearTimeout(timer);
    if (!document.hidden) look();
  };
  document.addEventListener("visibilitychange", woken);
  document.getElementById("tools").hidden = false;
  filter();
  alive();
  timer = setTimeout(look, EVERY_MS);
}

const live = document.getElementById("live");
if (live) start(live);
