// @medplum/core: bulkExport polls by itself, and parses what a 202 says.
import { Tally } from "./report.mjs";

globalThis.WebSocket ??= class extends EventTarget {}; // Node has it since version 22
const { MedplumClient } = await import("@medplum/core");

const { SERVER, TOKEN, LEVEL } = process.env;
const client = new MedplumClient({ baseUrl: SERVER, fhirUrlPath: "fhir", accessToken: TOKEN });
const manifest = await client.bulkExport(LEVEL, undefined, undefined, { pollStatusOnAccepted: true });
const tally = new Tally();
for (const { url } of manifest.output) {
  tally.add(await (await client.download(url)).text());
}
tally.tell();
