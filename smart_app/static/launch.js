// A launch in a frame that may keep no cookie: the secret that ties it to this window is kept here.
const begun = document.getElementById("launching")?.dataset;
const back = document.getElementById("returning");
const kept = (state) => `radcds-launch:${state}`;

function say(words) {
  const note = back.querySelector("[role=status]");
  Object.assign(note, { textContent: words, className: "problem" });
}

if (begun) {
  try {
    sessionStorage.setItem(kept(begun.state), begun.binder);
  } catch {
    // A browser that keeps neither: the cookie is tried, and the page after says what is wrong.
  }
  location.replace(begun.address);
}

if (back) {
  const answer = new URLSearchParams(location.search);
  const name = kept(answer.get("state") ?? "");
  let binder = null;
  try {
    binder = sessionStorage.getItem(name);
    sessionStorage.removeItem(name);
  } catch {
    // said below
  }
  if (!binder) {
    say("This sign-in was not begun in this window. Open radcds from the record system again.");
  } else {
    answer.set("binder", binder);
    const headers = { Accept: "application/json" };
    const done = await fetch("/callback", { method: "POST", body: answer, headers });
    const told = await done.json().catch(() => ({ says: "The sign-in failed. Try again." }));
    if (done.ok) {
      sessionStorage.setItem(`radcds:${told.handle}`, told.secret);
      location.replace(told.location);
    } else {
      say(told.says);
    }
  }
}
