// fhirclient: SMART authorization as a web application does it, then a patient's whole EHI export
// by the client's own requests. This process is the application and the patient's browser.
import http from "node:http";
import smart from "fhirclient";
import { Tally, sleep } from "./report.mjs";

const { SERVER, PATIENT, PACE } = process.env;
const scope = "launch/patient patient/*.rs patient/$ehi-export offline_access";
const kept = {};
const storage = () => ({
  get: async (key) => kept[key],
  set: async (key, value) => (kept[key] = value),
  unset: async (key) => delete kept[key],
});
const fhir = (req, res) => smart(req, res, storage);

async function exported(client) {
  const patient = await client.request("Patient/" + client.patient.id);
  const kickOff = await client.request({
    url: `Patient/${client.patient.id}/$ehi-export`,
    method: "POST",
    includeResponse: true,
  });
  const status = kickOff.response.headers.get("content-location");
  let answer;
  while ((answer = await client.request({ url: status, includeResponse: true })).response.status !== 200) {
    await sleep(PACE);
  }
  const tally = new Tally();
  for (const { url } of answer.body.output) {
    const { response, body } = await client.request({ url, includeResponse: true });
    tally.add(typeof body === "string" ? body : await response.text());
  }
  await client.request({ url: status, method: "DELETE" });
  tally.tell({ patient: patient.id });
}

const server = http.createServer(async (req, res) => {
  const base = `http://${req.headers.host}`;
  try {
    if (req.url === "/launch") {
      return await fhir(req, res).authorize({
        iss: SERVER + "/fhir", clientId: "test_client_id", scope, redirectUri: base + "/back", pkceMode: "required",
      });
    }
    await exported(await fhir(req, res).ready());
    res.end();
  } catch (e) {
    console.error(e);
    res.destroy(e);
  }
});

server.listen(0, "127.0.0.1", async () => {
  const go = async (url) => (await fetch(url, { redirect: "manual" })).headers.get("location");
  const login = await go(`http://127.0.0.1:${server.address().port}/launch`);
  await go(await go(`${login}&_patient=${PATIENT}&_auth_success=1`));
  server.close();
});
