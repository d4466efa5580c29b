// HL7 senders of somebody else: npm `node-hl7-client`, `simple-hl7` and `@medplum/hl7`.
// Usage: node mllp_sender.js NODE_MODULES, then two lines of JSON on standard input:
//   {"sender": "node-hl7-client" | "simple-hl7" | "medplum", "port": …, "application": false,
//    "tls": {"key": FILE, "cert": FILE, "ca": FILE}}     TLS with node-hl7-client alone
//   ["MSH|…", …]
// It sends the messages one after another over one connection, prints one line,
// [["AA", control id], …], and ends when standard input does.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { createInterface } = require("node:readline");

const load = createRequire(`${process.argv[2]}/`);

async function nodeHl7Client(asked, texts) {
  const { Client, Message } = load("node-hl7-client");
  const files = Object.entries(asked.tls ?? {}).map(([name, file]) => [name, readFileSync(file)]);
  const tls = asked.tls && { ...Object.fromEntries(files), minVersion: "TLSv1.3" };
  const client = new Client({ host: "127.0.0.1", tls });
  const answers = [];
  let answered;
  const connection = client.createConnection({ port: asked.port }, (response) => {
    const message = response.getMessage();
    answers.push([message.get("MSA.1").toString(), message.get("MSA.2").toString()]);
    answered();
  });
  for (const text of texts) {
    const next = new Promise((resolve) => { answered = resolve; });
    await connection.sendMessage(new Message({ text }));
    await next;
  }
  await connection.close();
  return answers;
}

async function simpleHl7(asked, texts) {
  const hl7 = load("simple-hl7");
  const client = hl7.Server.createTcpClient("127.0.0.1", asked.port);
  const parser = new hl7.Parser();
  const answers = [];
  for (const text of texts) {
    answers.push(await new Promise((resolve, reject) => {
      client.send(parser.parse(text), (error, answer) => {
        if (error) return reject(error);
        const said = answer.getSegment("MSA");
        return resolve([said.getField(1).toString(), said.getField(2).toString()]);
      });
    }));
  }
  client.close();
  return answers;
}

async function medplum(asked, texts) {
  const { Hl7Client } = load("@medplum/hl7");
  const { Hl7Message } = load("@medplum/core");
  const client = new Hl7Client({ host: "127.0.0.1", port: asked.port, keepAlive: true });
  const answers = [];
  for (const text of texts) {
    const returnAck = asked.application ? "application" : "first";
    const answer = await client.sendAndWait(Hl7Message.parse(text), { returnAck });
    const said = answer.getSegment("MSA");
    answers.push([said.getField(1).toString(), said.getField(2).toString()]);
  }
  await client.close();
  return answers;
}

const senders = { "node-hl7-client": nodeHl7Client, "simple-hl7": simpleHl7, medplum };
const lines = createInterface({ input: process.stdin });
const asked = [];
lines.on("line", async (line) => {
  asked.push(JSON.parse(line));
  if (asked.length === 2) {
    console.log(JSON.stringify(await senders[asked[0].sender](...asked)));
  }
});
lines.on("close", () => process.exit(0));
