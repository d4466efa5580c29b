"use strict";
const overlay = document.getElementById("overlay");
const toggle = document.getElementById("toggle");
if (overlay && toggle) {
  const picture = overlay.querySelector("img");
  const flip = () => {
    const hidden = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", String(hidden));
    picture.hidden = hidden;
    toggle.firstChild.textContent = hidden ? "Show overlay " : "Hide overlay ";
  };
  toggle.addEventListener("click", flip);
  document.addEventListener("keydown", (event) => {
    if (event.key === "o" && !event.ctrlKey && !event.metaKey && !event.altKey) flip();
  });
}
