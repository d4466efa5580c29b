// Forms and files where a frame may keep no cookie; and whether single keys act.
import { get, secret, show } from "./shell.js";

/** The first words of a page of ours. */
async function words(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const said = [...page.querySelectorAll("main h1, main p")].slice(0, 2);
  return said.map((each) => each.textContent.trim()).join(": ");
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!secret() || form.method !== "post") return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const answer = await get(form.action, { method: "POST", body }).catch(() => null);
  if (form.action.endsWith("/sign-out")) secret(true);
  if (answer?.ok) return show(answer.redirected ? answer : await get(location.href));
  const note = form.querySelector("[role=alert]") ?? document.createElement("p");
  Object.assign(note, { role: "alert", className: "problem" });
  form.append(note);
  note.textContent = `Not saved. ${answer ? await words(answer) : "The server cannot be reached."}`;
});

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-file]");
  if (!link || !secret()) return;
  event.preventDefault();
  const answer = await get(link.href);
  if (!answer.ok) return show(answer);
  const href = URL.createObjectURL(await answer.blob());
  Object.assign(document.createElement("a"), { href, download: link.textContent.trim() }).click();
});

/** Whether single keys act: people who speak to their computer may not want them. */
export function singleKeys(box) {
  const name = "radcds-single-keys";
  try {
    box.checked = localStorage.getItem(name) !== "off";
    box.addEventListener("change", () => localStorage.setItem(name, box.checked ? "on" : "off"));
  } catch {
    box.checked = true; // this frame may not remember it
  }
  return () => box.checked;
}
