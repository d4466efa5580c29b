// A program of somebody else that reads our FHIR API: npm `fhirclient`, as a back end uses it.
// Usage: node fhirclient_reader.js NODE_MODULES, with one JSON object on standard input:
//   {"serverUrl": …, "tokenResponse": {"access_token": …}, "patient": "system|value"}
// It prints one JSON object: what it found, or {"refused": {"status": …, "message": …}}.
const { readFileSync } = require("node:fs");

const TYPES = ["DiagnosticReport", "ImagingStudy", "Observation"];

// Every resource of a type, by pages of one and of the usual size, and each read by itself.
async function readAll(client, type) {
  const pages = [];
  const onPage = (page) => pages.push(page);
  await client.request(`${type}?_count=1`, { pageLimit: 0, onPage });
  const found = await client.request(type, { pageLimit: 0, flat: true });
  const read = await Promise.all(found.map((each) => client.request(`${type}/${each.id}`)));
  return { pages, found, read };
}

// A report with its study and its observations in the place of its references.
async function resolved(client, id) {
  const references = ["imagingStudy.0", "result"];
  const { imagingStudy, result } = await client.request(`DiagnosticReport/${id}`, {
    resolveReferences: references,
  });
  return { imagingStudy, result };
}

async function main(modules) {
  const smart = require(`${modules}/fhirclient`);
  const { serverUrl, tokenResponse, patient } = JSON.parse(readFileSync(0, "utf-8"));
  const unused = { get: async () => undefined, set: async () => undefined, unset: async () => true };
  const client = smart({ headers: {} }, {}, unused).client({ serverUrl, tokenResponse });
  const told = { release: await client.getFhirRelease() };
  for (const type of TYPES) {
    told[type] = await readAll(client, type);
  }
  told.resolved = {};
  for (const { id } of told.DiagnosticReport.found) {
    told.resolved[id] = await resolved(client, id);
  }
  const query = new URLSearchParams({ patient, _summary: "count" });
  told.ofPatient = await client.request(`DiagnosticReport?${query}`);
  return told;
}

main(process.argv[2])
  .catch((error) => {
    if (!error.status) {
      throw error;
    }
    return { refused: { status: error.status, message: error.message } };
  })
  .then((told) => console.log(JSON.stringify(told)));
