// How an image is drawn: 16-bit values through a window, the map above. WebGL2, or a canvas.
const AMBER = [255, 176, 0];

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

export function glRenderer(canvas) {
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

export function canvasRenderer(canvas) {
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
