// HL7 receivers of somebody else: npm `node-hl7-server`, `simple-hl7` and `@medplum/hl7`.
// Usage: node mllp_receiver.js NODE_MODULES, then one line of JSON on standard input:
//   {"receiver": "node-hl7-server" | "simple-hl7" | "medplum", "answer": "AA", "enhanced": false,
//    "tls": {"key": FILE, "cert": FILE, "ca": FILE}}     TLS with node-hl7-server alone
// It prints {"port": …}, then one line for each message that it decoded, and serves on loopback
// until standard input ends.
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { createInterface } = require("node:readline");
const net = require("node:net");

const load = createRequire(`${process.argv[2]}/`);
const say = (what) => console.log(JSON.stringify(what));

// Two of the three listen on every address; here all listen on loopback.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (where, ...rest) {
  return listen.call(this, { port: where.port ?? where, host: "127.0.0.1" }, ...rest);
};

function decoded(control, observations) {
  const picture = observations.find(([kind]) => kind === "ED");
  const bytes = picture && Buffer.from(picture[1], "base64");
  say({
    control,
    observations: observations.length,
    overlay_sha256: bytes && createHash("sha256").update(bytes).digest("hex"),
  });
}

function nodeHl7Server(asked) {
  const { Server: Hl7Server } = load("node-hl7-server");
  const files = Object.entries(asked.tls ?? {}).map(([name, file]) => [name, readFileSync(file)]);
  const tls = asked.tls && { ...Object.fromEntries(files), requestCert: true };
  const server = new Hl7Server({ bindAddress: "127.0.0.1", tls });
  const inbound = server.createInbound({ port: 0 }, async (request, response) => {
    const message = request.getMessage();
    const observations = [];
    message.get("OBX").forEach((segment) => {
      observations.push([segment.get("2").toString(), segment.get("5.5").toString()]);
    });
    decoded(message.get("MSH.10").toString(), observations);
    await response.sendResponse(asked.answer);
  });
  inbound.on("listen", () => say({ port: inbound._socket.address().port }));
}

function simpleHl7(asked) {
  const hl7 = load("simple-hl7");
  const app = hl7.tcp();
  app.use((request, response) => {
    const observations = request.msg
      .getSegments("OBX")
      .map((each) => [each.getField(2).toString(), each.getComponent(5, 5).toString()]);
    decoded(request.msg.header.getField(8).toString(), observations);
    response.ack.getSegment("MSA").setField(1, asked.answer);
    response.end();
  });
  app.start(0, "utf-8");
  app.server.server.on("listening", () => say({ port: app.server.server.address().port }));
}

function medplum(asked) {
  const { Hl7Server } = load("@medplum/hl7");
  const server = new Hl7Server((connection) => {
    connection.addEventListener("message", ({ message }) => {
      const observations = message
        .getAllSegments("OBX")
        .map((each) => [each.getField(2).toString(), each.getComponent(5, 5)]);
      decoded(message.getSegment("MSH").getField(10).toString(), observations);
      connection.send(message.buildAck({ ackCode: asked.answer }));
    });
  });
  server.start(0, "utf-8", asked.enhanced);
  server.server.on("listening", () => say({ port: server.server.address().port }));
}

const receivers = { "node-hl7-server": nodeHl7Server, "simple-hl7": simpleHl7, medplum };
const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => {
  const asked = { answer: "AA", enhanced: false, ...JSON.parse(line) };
  receivers[asked.receiver](asked);
});
lines.on("close", () => process.exit(0));
