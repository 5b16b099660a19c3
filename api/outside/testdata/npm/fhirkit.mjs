// fhir-kit-client: discovery, capability, an operation, its status and its files, all by the
// client's own requests, which parse whatever comes as JSON.
import { Client } from "fhir-kit-client";
import { Tally, sleep } from "./report.mjs";

const { SERVER, TOKEN, PATIENT, PACE } = process.env;
const client = new Client({ baseUrl: SERVER + "/fhir", bearerToken: TOKEN });
const { tokenUrl } = await client.smartAuthMetadata();
const { fhirVersion } = await client.capabilityStatement();

const kickOff = PATIENT
  ? { name: "ehi-export", resourceType: "Patient", id: PATIENT }
  : { name: "export", method: "GET", options: { headers: { Prefer: "respond-async" } } };
const { response } = Client.httpFor(await client.operation(kickOff));
const status = response.headers.get("content-location");

async function poll() {
  for (;;) {
    const answer = await client.request(status);
    const { response } = Client.httpFor(answer);
    if (response.status === 200) return answer;
    await sleep(PACE ?? response.headers.get("retry-after"));
  }
}

const tally = new Tally();
for (const { url } of (await poll()).output) {
  const answer = await fetch(url, { headers: { Authorization: "Bearer " + TOKEN } });
  tally.add(await answer.text());
}
await client.request(status, { method: "DELETE" });
tally.tell({ tokenUrl, fhirVersion });
