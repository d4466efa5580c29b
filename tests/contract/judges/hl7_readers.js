// What three other HL7 v2 readers find in a message: medplum, node-hl7-client and simple-hl7.
// Usage: node hl7_readers.js NODE_MODULES FILE ENCODING → one JSON object on standard output.
const { createRequire } = require("node:module");
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const [modules, file, encoding] = process.argv.slice(2);
const load = createRequire(`${modules}/`);

function found(observations, control) {
  const picture = observations.find((each) => each.kind === "ED");
  const data = picture && Buffer.from(picture.data, "base64");
  return {
    control,
    kinds: observations.map((each) => each.kind),
    statuses: observations.map((each) => each.status),
    sha256: data ? createHash("sha256").update(data).digest("hex") : null,
  };
}

function medplum(text) {
  const message = load("@medplum/core").Hl7Message.parse(text);
  const observations = message.getAllSegments("OBX").map((obx) => ({
    kind: obx.getField(2).toString(),
    status: obx.getField(11).toString(),
    data: obx.getComponent(5, 5),
  }));
  return found(observations, message.getSegment("MSH").getField(10).toString());
}

function nodeHl7(text) {
  const message = new (load("node-hl7-client").Message)({ text });
  const observations = [];
  message.get("OBX").forEach((obx) => {
    observations.push({
      kind: obx.get("2").toString(),
      status: obx.get("11").toString(),
      data: obx.get("5.5").toString(),
    });
  });
  return found(observations, message.get("MSH.10").toString());
}

function simpleHl7(text) {
  const { Parser } = load("simple-hl7");
  const message = new Parser({ segmentSeperator: "\r" }).parse(text);
  const observations = message.getSegments("OBX").map((obx) => ({
    kind: obx.getField(2),
    status: obx.getField(11),
    data: obx.getComponent(5, 5),
  }));
  return found(observations, message.header.getField(8));
}

const text = readFileSync(file).toString(encoding);
process.stdout.write(
  JSON.stringify({ medplum: medplum(text), node_hl7: nodeHl7(text), simple_hl7: simpleHl7(text) }),
);
