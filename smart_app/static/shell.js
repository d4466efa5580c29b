// Every request of the pages. Where a frame may keep no cookie, the session's secret goes along.
const base = () => document.body.dataset.base || location.pathname.split("/", 3).join("/");
const name = () => `radcds:${base().split("/").pop()}`;

export function secret(forget = false) {
  try {
    if (forget) sessionStorage.removeItem(name());
    return sessionStorage.getItem(name());
  } catch {
    return null; // the browser keeps storage from this frame
  }
}

export function get(url, options = {}) {
  const headers = new Headers(options.headers);
  const ours = new URL(url, location.href).origin === location.origin;
  if (ours && secret()) headers.set("Authorization", `Session ${secret()}`);
  return fetch(url, { ...options, headers });
}

/** Put an answer in the place of this page and start its scripts. */
export async function show(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  history.replaceState(null, "", answer.url);
  document.title = page.title;
  document.body.replaceWith(page.body);
  for (const { src } of page.querySelectorAll("script[data-page]"))
    await import(`${src}?at=${Date.now()}`);
}

if ("shell" in document.body.dataset && secret())
  get(location.href).then((answer) => answer.ok && show(answer));
