// A viewer for 16-bit images: WebGL2 where there is one, else a 2D canvas with the same features.
import { singleKeys } from "./forms.js";
import { get } from "./shell.js";

const AMBER = [255, 176, 0];
const KEPT_FRAMES = 64;
const KEPT_BYTES = 256e6;
const AHEAD = 8;

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4. - 1., 0., 1.); }`;
const FRAGMENT = `#version 300 es
precision highp float; precision highp int; precision highp usampler2D;
uniform usampler2D image; uniform sampler2D cells;
uniform vec2 size, screen, centre, pixel, level; uniform float slope, intercept, flip, strength;
out vec4 colour;
float at(ivec2 p) { return float(texelFetch(image, clamp(p, ivec2(0), ivec2(size) - 1), 0).r); }
float between(vec2 p) {
  p -= .5; ivec2 i = ivec2(floor(p)); vec2 f = fract(p);
  return mix(mix(at(i), at(i + ivec2(1, 0)), f.x),
    mix(at(i + ivec2(0, 1)), at(i + ivec2(1, 1)), f.x), f.y);
}
void main() {
  vec2 p = centre + (vec2(gl_FragCoord.x, screen.y - gl_FragCoord.y) - screen * .5) * pixel;
  colour = vec4(0., 0., 0., 1.);
  if (any(lessThan(p, vec2(0.))) || any(greaterThanEqual(p, size))) return;
  int n = int(clamp(ceil(max(pixel.x, pixel.y) - .01), 1., 6.));
  float v = 0.;
  if (n == 1) v = between(p);
  else {
    for (int y = 0; y < n; y++) for (int x = 0; x < n; x++)
      v += at(ivec2(floor(p + ((vec2(x, y) + .5) / float(n) - .5) * pixel)));
    v /= float(n * n);
  }
  float shown = abs(flip - clamp((v * slope + intercept - level.x) / level.y, 0., 1.));
  vec2 grid = vec2(textureSize(cells, 0)), q = p / size * grid - .5, i = floor(q), f = q - i;
  float s = texture(cells, (i + f * f * (3. - 2. * f) + .5) / grid).r * strength;
  colour.rgb = mix(vec3(shown), vec3(${AMBER.map((each) => (each / 255).toFixed(4))}), s);
}`;

/** Grey value 0 and the span up to 1, of DICOM PS3.3 C.11.2.1.2.1. */
function ramp({ center, width }) {
  return width > 1 ? [center - 0.5 - (width - 1) / 2, width - 1] : [center - width / 2, width];
}

function glRenderer(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const place = (name) => gl.getUniformLocation(program, name);
  const texture = (unit, filter) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, side, filter);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T])
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  };
  texture(0, gl.NEAREST);
  texture(1, gl.LINEAR);
  gl.uniform1i(place("image"), 0);
  gl.uniform1i(place("cells"), 1);
  const put = (unit, inner, columns, rows, outer, type, data) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, inner, columns, rows, 0, outer, type, data);
  };
  put(1, gl.R8, 1, 1, gl.RED, gl.UNSIGNED_BYTE, new Uint8Array(1));
  const limit = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  let loaded, cells;
  return {
    name: "webgl2",
    paint(look) {
      const { frame, overlay } = look;
      const { rows, columns } = frame.image;
      if (gl.isContextLost() || Math.max(rows, columns) > limit) return false;
      if (loaded !== frame)
        put(0, gl.R16UI, columns, rows, gl.RED_INTEGER, gl.UNSIGNED_SHORT, frame.pixels);
      if (overlay && cells !== overlay)
        put(1, gl.R8, overlay.columns, overlay.rows, gl.RED, gl.UNSIGNED_BYTE, overlay.values);
      loaded = frame;
      cells = overlay ?? cells;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.uniform2f(place("size"), columns, rows);
      gl.uniform2f(place("screen"), canvas.width, canvas.height);
      gl.uniform2f(place("centre"), look.x, look.y);
      gl.uniform2f(place("pixel"), 1 / look.across, 1 / look.down);
      gl.uniform2f(place("level"), ...ramp(look.window));
      gl.uniform1f(place("slope"), frame.image.slope);
      gl.uniform1f(place("intercept"), frame.image.intercept);
      gl.uniform1f(place("flip"), look.flip);
      gl.uniform1f(place("strength"), overlay ? look.strength : 0);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      return true;
    },
  };
}

function canvasRenderer(canvas) {
  const to = canvas.getContext("2d", { alpha: false });
  const grey = document.createElement("canvas");
  const amber = document.createElement("canvas");
  const table = new Uint32Array(65536);
  let made, cells;
  const makeGrey = ({ frame, window: level, flip }) => {
    const { rows, columns, slope, intercept } = frame.image;
    const [low, span] = ramp(level);
    for (let v = 0; v < 65536; v++) {
      const shown = Math.min(1, Math.max(0, (v * slope + intercept - low) / span));
      table[v] = 0xff000000 | (Math.round(255 * Math.abs(flip - shown)) * 0x010101);
    }
    Object.assign(grey, { width: columns, height: rows });
    const context = grey.getContext("2d");
    const data = context.createImageData(columns, rows);
    const out = new Uint32Array(data.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = table[frame.pixels[i]];
    context.putImageData(data, 0, 0);
  };
  const makeAmber = ({ rows, columns, values }) => {
    const fine = 24;
    Object.assign(amber, { width: columns * fine, height: rows * fine });
    const context = amber.getContext("2d");
    const data = context.createImageData(amber.width, amber.height);
    const edge = (at, n) => Math.min(n - 1, Math.max(0, at));
    const near = (at) => {
      const q = (at + 0.5) / fine - 0.5;
      const i = Math.floor(q);
      return [i, (q - i) ** 2 * (3 - 2 * (q - i))];
    };
    for (let y = 0, into = 0; y < amber.height; y++) {
      const [j, g] = near(y);
      for (let x = 0; x < amber.width; x++, into += 4) {
        const [i, f] = near(x);
        const cell = (dx, dy) => values[edge(j + dy, rows) * columns + edge(i + dx, columns)];
        const alpha = (1 - g) * ((1 - f) * cell(0, 0) + f * cell(1, 0))
          + g * ((1 - f) * cell(0, 1) + f * cell(1, 1));
        data.data.set([...AMBER, alpha], into);
      }
    }
    context.putImageData(data, 0, 0);
  };
  return {
    name: "canvas",
    paint(look) {
      const { frame, overlay } = look;
      const { center, width } = look.window;
      const key = [center, width, look.flip].join();
      if (made?.frame !== frame || made.key !== key) makeGrey(look);
      made = { frame, key };
      if (overlay && cells !== overlay) makeAmber(overlay);
      cells = overlay ?? cells;
      const { rows, columns } = frame.image;
      const box = [canvas.width / 2 - look.x * look.across, canvas.height / 2 - look.y * look.down,
        columns * look.across, rows * look.down];
      to.globalAlpha = 1;
      to.fillRect(0, 0, canvas.width, canvas.height);
      to.imageSmoothingQuality = "high";
      to.drawImage(grey, ...box);
      to.globalAlpha = look.strength;
      if (overlay) to.drawImage(amber, ...box);
      return true;
    },
  };
}

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
