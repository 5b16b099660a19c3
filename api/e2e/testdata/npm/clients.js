// Two clients that others wrote, each as an application of its own on one loopback port: fhirclient (SMART) and openid-client (OAuth 2,
// OpenID Connect). A browser is sent to /launch/NAME, and sees what came of it behind /fhirclient or /openid.
import http from "node:http";
import crypto from "node:crypto";
import smart from "fhirclient";
import * as oidc from "openid-client";

const { SERVER, SERVICE_KEYS, GATE_SECRET } = process.env;
const scope = "openid fhirUser launch/patient patient/*.rs patient/$ehi-export offline_access";
let base; // of this process
let flow; // what openid-client keeps between its two steps

// fhirclient keeps its state here.
const kept = {};
const storage = () => ({
  get: async (key) => kept[key],
  set: async (key, value) => (kept[key] = value),
  unset: async (key) => delete kept[key],
});

async function fhirclientReady(req, res) {
  const client = await smart(req, res, storage).ready();
  const patient = await client.request("Patient/" + client.patient.id);
  const before = client.state.tokenResponse.access_token;
  await client.refresh();
  const after = await client.request("Patient/" + client.patient.id);
  return { patient: patient.id, again: after.id, user: client.user.fhirUser, renewed: before !== client.state.tokenResponse.access_token };
}

async function openidLaunch(res) {
  const config = await oidc.discovery(new URL(SERVER), "npm", undefined, oidc.None());
  const verifier = oidc.randomPKCECodeVerifier();
  flow = { config, verifier, state: oidc.randomState(), nonce: oidc.randomNonce() };
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: base + "/openid", scope, state: flow.state, nonce: flow.nonce, aud: SERVER + "/fhir",
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
  });
  res.writeHead(302, { Location: url.href }).end();
}

async function openidReady(req) {
  const { config, verifier, state, nonce } = flow;
  // Checks iss (RFC 9207), and of the id token its signature, iss, aud, exp and nonce.
  const tokens = await oidc.authorizationCodeGrant(config, new URL(req.url, base), { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true });
  const renewed = await oidc.refreshTokenGrant(config, tokens.refresh_token);
  const gate = await oidc.discovery(new URL(SERVER), "gate", GATE_SECRET, oidc.ClientSecretBasic(GATE_SECRET));
  const told = await oidc.tokenIntrospection(gate, renewed.access_token);
  await oidc.tokenRevocation(config, renewed.refresh_token);
  const later = await oidc.tokenIntrospection(gate, renewed.access_token);
  const jwk = JSON.parse(SERVICE_KEYS).keys.find((k) => k.kty === "EC");
  const key = await crypto.subtle.importKey("jwk", { ...jwk, alg: undefined, use: undefined, key_ops: undefined }, { name: "ECDSA", namedCurve: "P-384" }, false, ["sign"]);
  const service = await oidc.discovery(new URL(SERVER), "svc", undefined, oidc.PrivateKeyJwt({ key, kid: jwk.kid }));
  const system = await oidc.clientCredentialsGrant(service, { scope: "system/*.rs" });
  return {
    patient: tokens.patient, claims: tokens.claims(), renewed: renewed.access_token !== tokens.access_token,
    active: told.active, client: told.client_id, later: later.active, system: system.scope,
  };
}

function tell(res, status, what) {
  res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(what));
}

const server = http.createServer(async (req, res) => {
  const path = new URL(req.url, base).pathname;
  req.headers["x-forwarded-proto"] = "http";
  try {
    switch (path) {
      case "/launch/fhirclient":
        return await smart(req, res, storage).authorize({ iss: SERVER + "/fhir", clientId: "npm", scope, redirectUri: base + "/fhirclient", pkceMode: "required" });
      case "/launch/openid":
        return await openidLaunch(res);
      case "/fhirclient":
        return tell(res, 200, await fhirclientReady(req, res));
      case "/openid":
        return tell(res, 200, await openidReady(req));
    }
    tell(res, 404, {});
  } catch (e) {
    tell(res, 500, { stack: e.stack, code: e.code, error: e.error, description: e.error_description, cause: String(e.cause?.stack ?? e.cause) });
  }
});
server.listen(0, "127.0.0.1", () => {
  base = "http://127.0.0.1:" + server.address().port;
  console.log(base);
});
process.stdin.resume().on("end", () => process.exit(0)); // it ends with the test
