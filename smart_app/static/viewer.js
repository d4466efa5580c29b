// A viewer for 16-bit images: WebGL2 where there is one, else a 2D canvas with the same features.
import { singleKeys } from "./forms.js";
import { canvasRenderer, glRenderer } from "./renderers.js";
import { get } from "./shell.js";

const KEPT_FRAMES = 64;
const KEPT_BYTES = 256e6;
const AHEAD = 8;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const short = (value) => String(Math.abs(value) < 10 ? Math.round(value * 10) / 10 : Math.round(value));
const length = (mm) => (mm >= 10 ? `${short(mm / 10)} cm` : `${short(mm)} mm`);

/** One study on the screen: its images, and how they are looked at. */
class Pane {
  constructor(root, told) {
    this.root = root;
    this.told = told;
    this.stage = root.querySelector(".stage");
    this.canvas = root.querySelector("canvas");
    this.slider = root.querySelector("input[type=range]");
    this.choice = root.querySelector("select");
    this.frames = new Map();
    this.under = null;
    this.overlayOn = false;
    this.strength = 0.6;
    this.rolled = 0;
    this.watch();
  }

  /** Give up WebGL: a canvas keeps its kind of context for life, so it is replaced. */
  plain() {
    const fresh = this.canvas.cloneNode();
    this.canvas.replaceWith(fresh);
    this.canvas = fresh;
    return canvasRenderer(fresh);
  }

  async open() {
    this.say("Loading the image …");
    const url = this.root.dataset.images;
    const asked = url ? this.ask(url) : null;
    asked?.catch(() => {}); // told below: the shaders are made while the answer is on its way
    const forced = document.body.dataset.webgl === "off";
    this.renderer ??= (!forced && glRenderer(this.canvas)) || this.plain();
    try {
      Object.assign(this, await (await asked)?.json());
      if (!this.images?.length) throw new Error("the archive gives no pixels for it");
    } catch (error) {
      return this.fail(error);
    }
    if (this.overlay) {
      const { cells } = this.overlay;
      this.overlay.values = Uint8Array.from(atob(cells), (each) => each.charCodeAt(0));
    }
    this.index = Math.max(0, this.images.findIndex((image) => image.analysed));
    this.reset();
    this.choice.replaceChildren(...this.series.map(({ label }, at) => new Option(label, at)));
    this.choice.hidden = this.series.length < 2;
    this.choice.parentElement.hidden = this.images.length < 2;
    return this.go(this.index);
  }

  async ask(url) {
    const answer = await get(url).catch(() => {
      throw new Error("the server cannot be reached");
    });
    if (answer.ok) return answer;
    const why = { 401: "the session has ended", 403: "this session may not see it",
      404: "the archive does not have it", 410: "the archive does not have it any more" };
    throw new Error(why[answer.status] ?? `the server answered ${answer.status}`);
  }

  get image() { return this.images[this.index]; }
  get stack() { return this.series?.[this.image.series] ?? { first: 0, count: 1 }; }
  get mapShown() { return this.overlayOn && this.overlay && this.frame?.image.analysed; }

  reset() {
    this.flip = this.levelled = false;
    this.window = { ...this.image.window };
    this.fit();
  }

  fit() {
    Object.assign(this, { zoom: 1, x: this.image.columns / 2, y: this.image.rows / 2 });
    this.paint();
  }

  /** Device pixels per image pixel, across and down. */
  scale() {
    const { rows, columns, spacing_mm: mm } = this.frame.image;
    const tall = mm ? mm[0] / mm[1] : 1;
    const { width, height } = this.canvas;
    const across = this.zoom * Math.min(width / columns, height / (rows * tall));
    return [across, across * tall];
  }

  /** Get a frame once; the least lately used ones make room. */
  load(at) {
    const image = this.images[at];
    let kept = this.frames.get(at);
    this.frames.delete(at);
    kept ??= this.ask(image.url).then((answer) => {
      // Images of one study may differ in how they are shown; each says so itself.
      Object.assign(image, JSON.parse(answer.headers.get("X-Radcds-Shown") ?? "{}"));
      return answer.arrayBuffer();
    }).then((bytes) => {
      if (bytes.byteLength !== image.rows * image.columns * 2)
        throw new Error("its data are incomplete");
      return { image, pixels: new Uint16Array(bytes) };
    });
    kept.catch(() => this.frames.delete(at));
    this.frames.set(at, kept);
    const room = Math.max(2, Math.min(KEPT_FRAMES, KEPT_BYTES / (image.rows * image.columns * 2)));
    for (const [old] of this.frames) if (this.frames.size > room) this.frames.delete(old);
    return kept;
  }

  async go(at) {
    this.index = at;
    const { first, count } = this.stack;
    const place = at - first + 1;
    const waits = setTimeout(() => this.stage.classList.add("waits"), 150);
    Object.assign(this.slider, { min: 1, max: count, value: place });
    this.slider.setAttribute("aria-valuetext", `image ${place} of ${count}`);
    this.choice.value = this.image.series;
    this.root.querySelector("output").textContent = `${place} / ${count}`;
    try {
      const frame = await this.load(at);
      clearTimeout(waits);
      if (this.index !== at) return;
      const { rows, columns } = this.seen ?? frame.image;
      this.frame = frame;
      this.seen = frame.image;
      if (rows !== this.seen.rows || columns !== this.seen.columns) this.reset();
      if (!this.levelled) this.window = { ...this.seen.window };
      this.say("");
      this.stage.classList.remove("waits", "failed");
      this.draw();
      this.ahead(at);
    } catch (error) {
      clearTimeout(waits);
      if (this.index === at) this.fail(error);
    }
  }

  /** Ask for the neighbours before they are needed, the nearest first. */
  async ahead(at) {
    const { first, count } = this.stack;
    for (let step = 1; step <= AHEAD && this.index === at; step++)
      await Promise.allSettled([at + step, at - step]
        .filter((next) => next >= first && next < first + count).map((next) => this.load(next)));
  }

  scroll(by) {
    const { first, count } = this.stack;
    const next = clamp(this.index + by, first, first + count - 1);
    if (next !== this.index) this.go(next);
  }

  /** Another series or another size of image is looked at from its own start. */
  goSeries(number) {
    this.index = this.series[number].first;
    this.reset();
    this.go(this.index);
  }

  paint() {
    if (!this.frame || this.due) return;
    this.due = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.due);
    this.due = 0;
    if (!this.frame || !this.measure()) return;
    const [across, down] = this.scale();
    const { image } = this.frame;
    const look = { frame: this.frame, x: this.x, y: this.y, across, down, window: this.window,
      flip: Number(this.flip !== image.invert), strength: this.strength,
      overlay: this.mapShown ? this.overlay : null };
    if (!this.renderer.paint(look)) {
      this.renderer = this.plain();
      this.measure();
      this.renderer.paint(look);
    }
    if (!document.body.dataset.firstImage) {
      performance.mark("radcds-first-image");
      document.body.dataset.firstImage = performance.now().toFixed(0);
    }
    this.root.dataset.renderer = this.renderer.name;
    this.root.dataset.shown = image.url;
    this.rule(across / this.ratio);
    this.told(this);
  }

  measure() {
    const { clientWidth, clientHeight } = this.stage;
    this.ratio = window.devicePixelRatio || 1;
    const width = Math.round(clientWidth * this.ratio);
    const height = Math.round(clientHeight * this.ratio);
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
    return width > 0 && height > 0;
  }

  /** The longest round length that is not too long to be a scale bar. */
  rule(perPixel) {
    const svg = this.root.querySelector("svg");
    const mm = this.frame.image.spacing_mm?.[1];
    const most = Math.min(160, this.stage.clientWidth / 3);
    const fits = mm && [200, 100, 50, 20, 10, 5, 2, 1].find((each) => (each / mm) * perPixel <= most);
    svg.classList.toggle("off", !fits);
    if (!fits) return;
    const wide = (fits / mm) * perPixel;
    for (const path of svg.querySelectorAll("path"))
      path.setAttribute("d", `M${198 - wide} 20v8h${wide}v-8M${198 - wide / 2} 24v4`);
    svg.querySelector("text").textContent = length(fits);
  }

  zoomBy(factor, at) {
    const [fromX, fromY] = at ?? [this.x, this.y];
    const zoom = clamp(this.zoom * factor, 0.25, 40);
    const moved = this.zoom / zoom;
    Object.assign(this, { x: fromX + (this.x - fromX) * moved, y: fromY + (this.y - fromY) * moved, zoom });
    this.paint();
  }

  panBy(right, down) {
    if (!this.frame) return;
    const [across, tall] = this.scale();
    const { columns, rows } = this.frame.image;
    this.x = clamp(this.x - (right * this.ratio) / across, 0, columns);
    this.y = clamp(this.y - (down * this.ratio) / tall, 0, rows);
    this.paint();
  }

  levelBy(right, down) {
    const step = Math.max(this.image.window.width, 1) / 400;
    this.window.width = Math.max(1, this.window.width + right * step);
    this.window.center += down * step;
    this.levelled = true;
    this.paint();
  }

  /** The image point under the pointer. */
  point({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    const [across, down] = this.scale();
    return [this.x + ((clientX - box.x) * this.ratio - this.canvas.width / 2) / across,
      this.y + ((clientY - box.y) * this.ratio - this.canvas.height / 2) / down];
  }

  say(text, failed = false) {
    const says = this.root.querySelector(".says");
    says.querySelector("p").textContent = text;
    says.querySelector("button").hidden = !failed;
    says.hidden = !text;
  }

  fail({ message }) {
    this.frame = null;
    this.stage.classList.remove("waits");
    this.stage.classList.add("failed");
    this.say(`The image cannot be shown: ${message}. ${this.root.dataset.stands}`, true);
    this.root.dataset.shown = "";
    this.told(this);
  }

  watch() {
    const { stage } = this;
    const down = new Map();
    new ResizeObserver(() => this.draw()).observe(stage);
    stage.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.renderer = this.plain();
      this.draw();
    }, true);
    stage.addEventListener("pointerdown", (event) => {
      if (event.button > 1 || event.target.closest("button")) return;
      event.preventDefault();
      stage.focus({ preventScroll: true });
      stage.setPointerCapture(event.pointerId);
      down.set(event.pointerId, event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!this.frame) return;
      this.under = this.point(event);
      const last = down.get(event.pointerId);
      if (!last) return this.told(this);
      down.set(event.pointerId, event);
      const by = [event.clientX - last.clientX, event.clientY - last.clientY];
      if (down.size === 2) this.pinch([...down.values()], last, event, by);
      else if (event.ctrlKey || event.shiftKey || event.buttons === 4) this.panBy(...by);
      else this.levelBy(...by);
    });
    for (const name of ["pointerup", "pointercancel"])
      stage.addEventListener(name, (event) => down.delete(event.pointerId));
    stage.addEventListener("pointerleave", () => {
      this.under = null;
      this.told(this);
    });
    stage.addEventListener("wheel", (event) => {
      if (!this.images) return;
      event.preventDefault();
      const by = clamp(event.deltaY * (event.deltaMode ? 30 : 1), -60, 60);
      if (this.stack.count < 2 || event.ctrlKey)
        return this.frame && this.zoomBy(Math.exp(-by / 400), this.point(event));
      this.rolled = Math.sign(by) === Math.sign(this.rolled) ? this.rolled + by : by;
      if (Math.abs(this.rolled) < 60) return;
      this.scroll(Math.sign(by));
      this.rolled = 0;
    }, { passive: false });
    stage.addEventListener("dblclick", () => this.frame && this.fit());
    this.slider.addEventListener("input", () => this.go(this.stack.first + Number(this.slider.value) - 1));
    this.choice.addEventListener("change", () => this.goSeries(Number(this.choice.value)));
  }

  pinch([one, two], last, event, by) {
    const other = one.pointerId === event.pointerId ? two : one;
    const far = (to) => Math.hypot(to.clientX - other.clientX, to.clientY - other.clientY);
    this.zoomBy(far(event) / Math.max(1, far(last)), this.point(other));
    this.panBy(by[0] / 2, by[1] / 2);
  }
}

function start(viewer) {
  const find = (selector) => document.querySelector(selector);
  const keys = find("#keys");
  const keysAct = singleKeys(find("#single"));
  const panes = [...viewer.querySelectorAll(".pane")].map((root) => ({ root }));
  let active;

  const put = (name, text) => {
    const out = find(`[data-out=${name}]`);
    if (out && out.textContent !== text) out.textContent = text;
  };
  const announce = (text) => { find("#announce").textContent = text; };
  const press = (name, on) => {
    const button = find(`[data-do=${name}]`);
    if (!button) return;
    button.setAttribute("aria-pressed", String(on));
    const state = button.querySelector(".state");
    if (state) state.textContent = on ? "on" : "off";
  };

  function told(pane) {
    const image = pane.frame?.image;
    pane.root.querySelector(".corner").textContent = image
      ? `${image.label}${image.analysed ? " · the image that the AI read" : ""}` : "";
    const map = pane.mapShown ? `, saliency map on: ${pane.overlay.label}` : "";
    pane.canvas.setAttribute("aria-label", image
      ? `${pane.root.dataset.name}: ${image.label}${pane.flip ? ", inverted" : ""}${map}`
      : `${pane.root.dataset.name}: no image is shown`);
    if (pane !== active) return;
    press("invert", pane.flip);
    press("overlay", panes[0].overlayOn ?? false);
    if (panes[0].overlay) find("[data-do=overlay]")?.removeAttribute("disabled");
    viewer.classList.toggle("mapped", Boolean(panes[0].overlayOn));
    put("window", image ? `W ${short(pane.window.width)}  L ${short(pane.window.center)}` : "");
    put("zoom", image ? `${short((pane.scale()[0] / pane.ratio) * 100)} %` : "");
    const at = image && pane.under?.map(Math.floor);
    const inside = at && at[0] >= 0 && at[1] >= 0 && at[0] < image.columns && at[1] < image.rows;
    const value = inside && pane.frame.pixels[at[1] * image.columns + at[0]] * image.slope + image.intercept;
    put("point", inside ? `x ${at[0]}  y ${at[1]}  value ${short(value)}` : "");
    legend(panes[0], panes[0].frame?.image);
  }

  function legend(pane, image) {
    if (!pane.overlayOn || !image) return put("map", viewer.dataset.off ?? "");
    const { overlay } = pane;
    if (!overlay) return put("map", "There is no saliency map for this study.");
    if (!image.analysed) return put("map", "The map belongs to another image: the one that the AI read.");
    const { rows, columns, spacing_mm: mm } = image;
    const size = [columns / overlay.columns, rows / overlay.rows];
    const cell = mm ? `${length(size[0] * mm[1])} × ${length(size[1] * mm[0])}`
      : `${short(size[0])} × ${short(size[1])} pixels`;
    put("map", `${overlay.label}, ${overlay.columns} × ${overlay.rows} cells of ${cell}. Nothing finer than `
      + "a cell is meant. It explains the model; it does not locate a lesion.");
  }

  function activate(pane) {
    active = pane;
    for (const each of panes) each.root.classList.toggle("active", each === pane);
    const named = (pane.presets ?? []).slice(0, 5);
    find("#presets").replaceChildren(...named.map(({ name }, at) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${name} ` });
      button.dataset.do = at + 1;
      button.append(Object.assign(document.createElement("kbd"), { textContent: at + 1 }));
      return button;
    }));
    told(pane);
  }

  async function open(pane) {
    const ready = new Pane(pane.root, told);
    panes[panes.indexOf(pane)] = ready;
    for (const kind of ["pointerdown", "focusin"])
      pane.root.addEventListener(kind, () => active !== ready && activate(ready));
    activate(ready);
    await ready.open();
    if (active === ready) activate(ready);
  }

  async function prior() {
    const pane = panes[1];
    if (!pane) return;
    pane.root.hidden = !pane.root.hidden;
    viewer.classList.toggle("double", !pane.root.hidden);
    press("prior", !pane.root.hidden);
    announce(pane.root.hidden ? "Prior closed" : "Prior shown beside this study");
    if (pane.root.hidden) activate(panes[0]);
    else if (pane instanceof Pane) activate(pane);
    else await open(pane);
  }

  function overlay() {
    if (!panes[0].overlay || !find("[data-do=overlay]")) return;
    if (active !== panes[0]) activate(panes[0]);
    active.overlayOn = !active.overlayOn;
    announce(active.overlayOn ? `Saliency map on. ${active.overlay.label}` : "Saliency map off");
    active.paint();
  }

  function preset(number) {
    const chosen = active.presets?.[number - 1];
    if (!chosen || !active.frame) return;
    active.window = { center: chosen.center, width: chosen.width };
    active.levelled = true;
    announce(`Window: ${chosen.name}`);
    active.paint();
  }

  function verdict() {
    const more = find("#verdict-more");
    if (!more) return;
    more.open = true;
    more.scrollIntoView({ block: "start" });
    more.querySelector("input")?.focus();
  }

  const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
  const acts = {
    overlay, prior, verdict,
    invert: () => {
      active.flip = !active.flip;
      announce(active.flip ? "Inverted" : "Not inverted");
      active.paint();
    },
    in: () => active.zoomBy(1.25),
    out: () => active.zoomBy(0.8),
    fit: () => active.frame && active.fit(),
    reset: () => active.frame && (active.reset(), announce("View reset")),
    next: () => active.images && active.scroll(1),
    back: () => active.images && active.scroll(-1),
    retry: () => (active.images ? active.go(active.index) : active.open().then(() => activate(active))),
    help: () => keys.showModal(),
    close: () => keys.close(),
  };
  for (let n = 1; n < 6; n++) acts[n] = () => preset(n);
  const bound = { h: "overlay", i: "invert", "+": "in", "=": "in", "-": "out", 0: "fit", r: "reset",
    p: "prior", v: "verdict", "?": "help", "]": "next", "[": "back", PageDown: "next", PageUp: "back",
    1: 1, 2: 2, 3: 3, 4: 4, 5: 5 };

  document.body.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do]");
    if (button) acts[button.dataset.do]?.();
  });
  document.body.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || keys.open) return;
    if (target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])")) return;
    const single = key.length === 1;
    if (single && !keysAct()) return;
    const elsewhere = target.matches("input") || target.closest("aside");
    if (!single && elsewhere) return;
    if (moves[key] && active.frame) active.panBy(...moves[key]);
    else if (!(bound[key.toLowerCase()] ?? bound[key])) return;
    else if (key.startsWith("Page") && active.stack?.count === 1) return;
    else acts[bound[key.toLowerCase()] ?? bound[key]]();
    event.preventDefault();
  });
  find("#opacity")?.addEventListener("input", (event) => {
    panes[0].strength = event.target.value / 100;
    panes[0].paint?.();
  });
  const form = find("#verdict-form");
  form?.addEventListener("change", () => {
    const against = form.elements.agreement.value === "disagree";
    form.elements.reason.required = against;
    if (against && form.elements.radpeer.value === "1")
      form.querySelector("[name=radpeer][value='1']").checked = false;
  });
  if (panes.length) open(panes[0]);
}

const viewer = document.getElementById("viewer");
if (viewer) start(viewer);
