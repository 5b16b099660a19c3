// The developer's console: runs a complete export in the browser, as a SMART client does.
import { base64url, el, hex, random, send, sha256, size, wire } from './wire.js';
import { openViewer } from './viewer.js';

// The sandbox's client: public with PKCE for patients, with its secret for backend services.
const client = 'test_client_id';
const redirect = `${location.origin}/`;
const keep = 'ehi-console'; // the storage key of a run while the patient signs in
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

const form = document.getElementById('setup'), steps = document.getElementById('steps'), news = document.getElementById('news'), viewer = document.getElementById('viewer');
let run = null; // the current run: {options, base, token, ...}

/** Returns the values of the form. */
function options() {
  const d = new FormData(form);
  return { what: d.get('what'), variant: d.get('variant'), secret: d.get('secret'), types: d.get('types').trim(), faults: d.getAll('fault'), automatic: d.has('automatic') };
}

const baseOf = (o) => `${location.origin}${o.faults.length ? `/faulty/${o.faults.join('+')}` : ''}${o.variant}/fhir`;

/** The steps of a run, in order. The run() of a step returns true if the next step may start. */
const plan = [
  {
    title: 'Discover the endpoints',
    rule: 'SMART App Launch 2.2, conformance: .well-known/smart-configuration below the FHIR base '
      + 'lists the endpoints.',
    async run(step) {
      const answer = await step.exchange({ method: 'GET', url: `${run.base}/.well-known/smart-configuration`, headers: { Accept: 'application/json' } });
      run.endpoints = answer.json;
      run.discovery = { status: answer.status, statusText: answer.statusText, headers: [...answer.headers], text: answer.text, json: answer.json, took: answer.took };
      return step.expect(answer, 200);
    },
  },
  {
    title: 'Get the patient\'s authorization',
    only: (o) => o.what === 'patient',
    rule: 'SMART App Launch 2.2, standalone launch. RFC 7636 (PKCE): the page generates a verifier '
      + 'and sends only its hash. RFC 6749 10.12: state links the response to this run.',
    manual: 'Go to sign-in',
    async run(step) {
      const verifier = random(), state = random();
      const challenge = await sha256(new TextEncoder().encode(verifier));
      const q = new URLSearchParams({ response_type: 'code', client_id: client, redirect_uri: redirect, scope: 'launch/patient patient/$ehi-export patient/Patient.rs offline_access', state, aud: run.base });
      if (challenge) for (const [k, v] of Object.entries({ code_challenge: base64url(challenge), code_challenge_method: 'S256' })) q.set(k, v);
      sessionStorage.setItem(keep, JSON.stringify({ options: run.options, endpoints: run.endpoints, discovery: run.discovery, asked: `${run.endpoints.authorization_endpoint}?${q}`, verifier, state, began: run.began }));
      location.assign(`${run.endpoints.authorization_endpoint}?${q}`);
      return false;
    },
    async back(step, q) {
      step.body.append(wire({ method: 'GET', url: run.asked }), el('p', {}, 'The browser returned to ', el('code', {}, `${redirect}?${q}`)));
      if (q.get('state') !== run.state) return step.wrong('The response has another state than the request: it does not belong to this run.');
      if (!q.get('code')) return step.wrong(`${q.get('error')}: ${q.get('error_description') ?? 'the patient denied access'}`);
      run.code = q.get('code');
      return true;
    },
  },
  {
    title: 'Get an access token',
    rule: 'For a patient: RFC 6749 4.1.3 with the verifier of RFC 7636 4.5. For a backend service: '
      + 'RFC 6749 4.4 (in production with a signed assertion, see SMART Backend Services).',
    async run(step) {
      const patient = run.options.what === 'patient';
      const body = patient
        ? new URLSearchParams({ grant_type: 'authorization_code', code: run.code, redirect_uri: redirect, client_id: client, code_verifier: run.verifier })
        : new URLSearchParams({ grant_type: 'client_credentials', scope: 'system/*.rs system/$ehi-export' });
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded', Accept: 'application/json' };
      if (!patient) headers.Authorization = `Basic ${btoa(`${encodeURIComponent(client)}:${encodeURIComponent(run.options.secret)}`)}`;
      const answer = await step.exchange({ method: 'POST', url: run.endpoints.token_endpoint, headers, body: body.toString() });
      run.token = answer.json?.access_token;
      run.patient = answer.json?.patient;
      return step.expect(answer, 200);
    },
  },
  {
    title: 'Read the patient',
    only: (o) => o.what === 'patient',
    rule: 'SMART App Launch 2.2: the launch context in the token response contains the patient\'s '
      + 'ID.',
    async run(step) {
      const answer = await step.exchange({ method: 'GET', url: `${run.base}/Patient/${run.patient}`, headers: bearer({ Accept: 'application/fhir+json' }) });
      const name = answer.json?.name?.[0];
      if (name) step.say([...(name.given ?? []), name.family].join(' '));
      return step.expect(answer, 200);
    },
  },
  {
    title: 'Find the group',
    only: (o) => o.what === 'group',
    rule: 'Bulk Data Access 3.0: a group of patients is a FHIR Group.',
    async run(step) {
      const answer = await step.exchange({ method: 'GET', url: `${run.base}/Group`, headers: bearer({ Accept: 'application/fhir+json' }) });
      run.group = answer.json?.entry?.[0]?.resource?.id;
      if (!step.expect(answer, 200)) return false;
      return run.group ? step.say(`Group/${run.group}`) : step.wrong('This server has no groups.');
    },
  },
  {
    title: 'Kick off the export',
    rule: 'Argonaut EHI Export API; FHIR asynchronous pattern: POST with Prefer: respond-async. '
      + 'The response is 202, and Content-Location has the status URL.',
    async run(step) {
      const path = { patient: `/Patient/${run.patient}/$ehi-export`, patients: '/Patient/$export', group: `/Group/${run.group}/$export`, system: '/$export' }[run.options.what];
      const q = run.options.types ? `?_type=${encodeURIComponent(run.options.types)}` : '';
      const method = run.options.what === 'patient' ? 'POST' : 'GET';
      let answer;
      for (let tries = 0; tries < 5; tries++) {
        answer = await step.exchange({ method, url: `${run.base}${path}${q}`, headers: bearer({ Accept: 'application/fhir+json', Prefer: 'respond-async' }) });
        if (answer.status !== 429 && answer.status !== 503) break;
        await step.countdown(retryAfter(answer, 2), `${answer.status}: retrying`);
      }
      run.status = answer.headers.get('Content-Location');
      const link = answer.headers.get('Link');
      run.form = link && /rel="?patient-interaction"?/.test(link) ? link.match(/<?([^>;]+)>?\s*;/)[1] : null;
      return step.expect(answer, 202);
    },
  },
  {
    title: 'Poll the status',
    rule: 'FHIR asynchronous pattern: the status is 202 until the export is complete, then 200 '
      + 'with the manifest. Retry-After says when to poll again. X-Progress is meant for people. '
      + 'A client that polls too early can get 429.',
    async run(step) {
      const note = el('div', { class: 'decision' });
      step.body.append(note);
      let failures = 0, last = '', shown = null;
      for (;;) {
        const request = { method: 'GET', url: run.status, headers: bearer({ Accept: 'application/json' }) };
        const answer = await send(request);
        if (!inUse(shown)) shown?.remove();
        shown = wire(request, answer);
        // fires for keys on a summary too
        shown.addEventListener('click', (e) => { e.currentTarget.dataset.used = ''; });
        step.body.append(shown);
        const progress = answer.headers.get('X-Progress') ?? '';
        const line = answer.failed ?? `${answer.status} ${progress}`;
        if (line !== last) step.log(line);
        last = line;
        guide(note, progress);
        if (answer.status === 200) {
          if (!answer.json) return step.wrong('The manifest is not valid JSON.');
          run.manifest = answer.json;
          run.expires = answer.headers.get('Expires');
          return true;
        }
        const temporary = answer.failed || answer.status === 429 || answer.status === 503;
        if (answer.status !== 202 && !temporary) return step.expect(answer, 200);
        failures = temporary ? failures + 1 : 0;
        if (failures > 10) return step.wrong('The status request failed more than ten times in a row. A client should give up here.');
        if (!(await step.countdown(retryAfter(answer, 5), answer.status === 202 ? 'polling again' : 'temporary failure, polling again'))) return step.wrong('Polling stopped. The export continues on the server.');
      }
    },
  },
  {
    title: 'Download the files',
    rule: 'Bulk Data Access: the manifest lists the files by type, with their number of resources. '
      + 'If requiresAccessToken is true, send the token with each download. NDJSON has one '
      + 'resource per line. If a file is shorter than its Content-Length, download it again.',
    async run(step) {
      const m = run.manifest;
      const entries = [...(m.output ?? []).map((f) => ({ ...f, kind: f.type })), ...(m.error ?? []).map((f) => ({ ...f, kind: `error: ${f.type}` }))];
      step.say(`${entries.length} files, as of ${m.transactionTime}. Format: `);
      const docs = (m.extension?.ehiDocumentationUrl ?? '/docs/ehi');
      step.body.lastElementChild.append(el('a', { href: docs, target: '_blank', rel: 'noopener' }, docs));
      const expires = Date.parse(run.expires ?? '');
      if (expires < Date.now()) step.partly(`The files expired at ${run.expires}. The server may have deleted them.`);
      const files = entries.map((f) => ({ name: f.url.split('/').pop(), type: f.type, url: f.url, load: once(() => fetchLines(step, f, files.find((x) => x.url === f.url))) }));
      const show = openViewer(viewer, files);
      const mine = run;
      step.body.append(el('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Files' }, el('table', {},
        el('thead', {}, el('tr', {}, ...['Type', 'File', 'Resources', 'Size', 'SHA-256', 'Download', ''].map((t) => el('th', { scope: 'col' }, t)))),
        el('tbody', {}, ...entries.map((f, i) => {
          const length = el('td', { class: 'number' }), hash = el('td', {}), state = el('td', {}, 'waiting');
          files[i].told = (bytes, digest) => {
            length.textContent = size(bytes);
            hash.replaceChildren(el('code', { title: digest ?? '' }, digest ? `${digest.slice(0, 8)}…` : 'https only'));
            if (!run.first) {
              run.first = true;
              say(`The first file arrived ${((Date.now() - run.began) / 1000).toFixed(1)} seconds after the start.`);
            }
          };
          files[i].state = (text, bad) => {
            state.textContent = text;
            state.className = bad ? 'wrong' : '';
          };
          return el('tr', {}, el('td', {}, f.kind), el('td', {}, files[i].name), el('td', { class: 'number' }, String(f.count ?? '')), length, hash, state,
            el('td', {}, el('button', { type: 'button', class: 'link', 'aria-label': `View ${files[i].name}`, click: () => show(files[i]).catch((e) => say(e.message)) }, 'View')));
        })))));
      step.body.append(viewer);
      const sum = { whole: 0, failed: [], wrong: 0, left: 0, outcomes: {} };
      const waiting = [...files.keys()];
      const worker = async () => {
        for (let i; mine === run && (i = waiting.shift()) !== undefined;) {
          await take(files[i], entries[i], sum);
          if (i === 0 && !sum.failed.length) await show(files[0]).catch((e) => say(e.message));
        }
      };
      await Promise.all([worker(), worker(), worker(), worker()]);
      return mine === run && report(step, files.length, sum);
    },
  },
  {
    title: 'Delete the export',
    rule: 'FHIR asynchronous pattern: a DELETE request to the status URL deletes the export. The '
      + 'response is 202. Later requests get 404.',
    manual: 'Delete the export',
    async run(step) {
      const answer = await step.exchange({ method: 'DELETE', url: run.status, headers: bearer({ Accept: 'application/fhir+json' }) });
      return step.expect(answer, 202);
    },
  },
  {
    title: 'Revoke the token',
    rule: 'RFC 7009: a client revokes a token that it no longer needs. All processes of the server '
      + 'reject the token immediately.',
    async run(step) {
      const body = { token: run.token, client_id: client };
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
      if (run.options.what !== 'patient') headers.Authorization = `Basic ${btoa(`${encodeURIComponent(client)}:${encodeURIComponent(run.options.secret)}`)}`;
      const answer = await step.exchange({ method: 'POST', url: run.endpoints.revocation_endpoint, headers, body: new URLSearchParams(body).toString() });
      sessionStorage.removeItem(keep);
      if (!step.expect(answer, 200)) return false;
      return step.say(run.troubled ? 'The run is complete, with problems. See the steps above.' : 'The export is complete.');
    },
  },
];

const bearer = (headers) => ({ Authorization: `Bearer ${run.token}`, ...headers });
/** Reports whether the reader is using a request that is shown. Such a request is not removed. */
const inUse = (shown) => Boolean(shown) && (shown.dataset.used !== undefined || shown.contains(document.activeElement) || (!getSelection().isCollapsed && shown.contains(getSelection().anchorNode)));
const once = (f) => { let made; return () => (made ??= f().catch((e) => { made = undefined; throw e; })); };
const say = (text) => { news.textContent = text; };

/** Returns Retry-After in seconds. The header has a number or a date (RFC 9110 10.2.3). */
function retryAfter(answer, otherwise) {
  const v = answer.headers.get('Retry-After');
  if (!v) return otherwise;
  if (/^\d+$/.test(v)) return Number(v);
  const until = (Date.parse(v) - Date.now()) / 1000;
  return Number.isFinite(until) ? Math.max(0, until) : otherwise;
}

/** Says what the patient or the administrator has to do, if the export waits for one of them. */
function guide(note, progress) {
  const job = run.status.split('/').at(-2);
  if (progress.startsWith('awaiting-input')) {
    note.replaceChildren(el('p', {}, 'The patient must choose what to share. ', el('a', { class: 'button', href: run.form ?? `/jobs/${job}/customize`, target: '_blank', rel: 'noopener' }, 'Open the form in a new tab')));
  } else if (progress.startsWith('retrieved')) {
    note.replaceChildren(el('p', {}, 'An administrator must review the export. ', el('a', { class: 'button', href: `/admin/ui/jobs/${job}`, target: '_blank', rel: 'noopener' }, 'Review the export in a new tab')));
  } else note.replaceChildren();
}

/** The largest number of bytes to download, per file and in total. */
const mostBytes = 32e6;

/** Downloads a file of the manifest and records the result in its row and in the sum. */
async function take(file, entry, sum) {
  if ((sum.bytes ?? 0) > mostBytes) {
    sum.left++;
    file.state('skipped');
    return;
  }
  let got;
  try {
    got = await file.load();
  } catch (e) {
    sum.failed.push(e.message);
    file.state('failed', true);
    return;
  }
  sum.bytes = (sum.bytes ?? 0) + got.bytes;
  if (got.cut) {
    sum.left++;
    file.state('partial');
  } else if (entry.count !== undefined && entry.count !== got.lines.length) {
    sum.wrong++;
    file.state(`${got.lines.length} resources instead of ${entry.count}`, true);
  } else {
    sum.whole++;
    file.state('complete');
  }
  if (!entry.kind.startsWith('error')) return;
  for (const line of got.lines) for (const issue of outcomeOf(line)) sum.outcomes[issue] = (sum.outcomes[issue] ?? 0) + 1;
}

function outcomeOf(line) {
  try {
    return (JSON.parse(line).issue ?? []).map((issue) => issue.severity);
  } catch {
    return ['error'];
  }
}

/**
 * Reports the results of all downloads. The run continues, because the export has to be deleted
 * in any case.
 */
function report(step, all, sum) {
  const told = Object.entries(sum.outcomes).map(([severity, n]) => `${n} of severity ${severity}`).join(', ');
  if (told) (sum.outcomes.error || sum.outcomes.fatal ? step.partly : step.say)(`The server reported issues: ${told}.`);
  if (sum.wrong) step.wrong(`${sum.wrong} of ${all} files do not have the number of resources that the manifest says.`);
  if (sum.failed.length) step.wrong(`${sum.failed.length} of ${all} files could not be downloaded. ${sum.failed[0]}`);
  if (sum.left) step.say(`${sum.left} of ${all} files were not downloaded completely: this page downloads up to ${size(mostBytes)}.`);
  return step.say(sum.whole === all ? `All ${all} files are complete and match the manifest.` : `${sum.whole} of ${all} files are complete and match the manifest.`);
}

/**
 * Downloads a file for the viewer. It retries a download that breaks off, and reads only the
 * beginning of a very large file.
 */
async function fetchLines(step, f, file) {
  const request = { method: 'GET', url: f.url, headers: run.manifest.requiresAccessToken ? bearer({ Accept: 'application/fhir+ndjson' }) : {} };
  for (let tries = 1; ; tries++) {
    const parts = [];
    let bytes = 0, answer, cut = false;
    try {
      answer = await fetch(request.url, { headers: request.headers, cache: 'no-store' });
      if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).slice(0, 300)}`);
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        bytes += value.length;
        if (bytes > mostBytes) {
          cut = true;
          await reader.cancel();
          break;
        }
      }
    } catch (e) {
      step.log(`${file.name}: ${e.message}`);
      const passing = answer?.status === 429 || answer?.status === 503;
      if (tries === 3 || answer && !answer.ok && !passing) throw new Error(`${file.name} could not be downloaded: ${e.message}`);
      step.log(`${file.name}: retrying`);
      await wait(passing ? retryAfter(answer, 1) * 1000 : 500);
      continue;
    }
    const whole = new Uint8Array(await new Blob(parts).arrayBuffer());
    const digest = cut ? null : await sha256(whole);
    file.told(bytes, digest && hex(digest));
    const lines = new TextDecoder().decode(whole).split('\n').filter((l) => l !== '');
    const wrong = !cut && f.count !== undefined && f.count !== lines.length ? ` The manifest says ${f.count} resources, but the file has ${lines.length}.` : '';
    return { lines, bytes, cut, note: (cut ? `Only the first ${size(bytes)} are shown.` : '') + wrong };
  }
}

/** Shows a step and returns the object that its run() uses. */
function open(of) {
  const body = el('div', {}), log = el('ul', { class: 'hint' });
  const mark = el('span', { class: 'mark' }, 'running');
  const item = el('li', { class: 'now' }, el('h2', {}, of.title, ' ', mark), el('p', { class: 'hint rule' }, of.rule), body, log);
  steps.append(item);
  const step = {
    item, body,
    async exchange(request) {
      const answer = await send(request);
      body.append(wire(request, answer));
      return answer;
    },
    say(text) { body.append(el('p', {}, text)); return true; },
    /** Sets the state of the step: now, done, partly or wrong. The state wrong is final. */
    state(name) {
      if (item.classList.contains('wrong')) return;
      item.className = name;
      mark.textContent = { now: 'running', done: 'done', partly: 'done with problems', wrong: 'failed' }[name];
      if (name === 'wrong' || name === 'partly') run.troubled = true;
    },
    partly(text) {
      step.state('partly');
      body.append(el('p', { class: 'wrong' }, text));
      return true;
    },
    log(text) { log.append(el('li', {}, `${new Date().toISOString().slice(11, 19)} ${text}`)); },
    wrong(text) {
      step.state('wrong');
      body.append(el('p', { class: 'wrong' }, text));
      say(text);
      return false;
    },
    expect(answer, status) {
      if (answer.status === status && !answer.failed) return true;
      return step.wrong(`Expected ${status}, ${answer.failed ?? `got ${answer.status}${answer.json?.issue?.[0]?.diagnostics ? `: ${answer.json.issue[0].diagnostics}` : answer.json?.error_description ? `: ${answer.json.error_description}` : ''}`}.`);
    },
    /** Shows a countdown and waits for it. Returns false if the reader stops it. */
    countdown(seconds, text) {
      return new Promise((done) => {
        const until = performance.now() + seconds * 1000;
        const left = el('span', {}), end = (v) => { clearInterval(tick); line.remove(); done(v); };
        const line = el('p', {}, left, ' ', el('button', { type: 'button', class: 'link', click: () => end(true) }, 'Now'), ' ', el('button', { type: 'button', class: 'link', click: () => end(false) }, 'Stop'));
        const show = () => {
          const s = Math.max(0, (until - performance.now()) / 1000);
          left.textContent = `Retry-After: ${text} in ${s.toFixed(0)} s`;
          if (s === 0) end(true);
        };
        const tick = setInterval(show, 200);
        body.append(line);
        show();
      });
    },
  };
  return step;
}

/** Runs the steps from index from, automatically or when the reader presses a button. */
async function go(from) {
  const list = plan.filter((p) => !p.only || p.only(run.options));
  for (let i = from; i < list.length; i++) {
    const mine = run;
    const step = open(list[i]);
    if (list[i].manual || !run.options.automatic && i > from) {
      await new Promise((done) => {
        const button = el('button', { type: 'button', click: () => { button.remove(); done(); } }, list[i].manual ?? 'Run this step');
        step.body.append(button);
        say(`Next: ${list[i].title}`);
      });
    } else say(list[i].title);
    if (mine !== run) return;
    let good = false;
    try {
      good = await list[i].run(step);
    } catch (e) { // the response does not follow the rule
      if (mine === run) step.wrong(`The response is not valid: ${e.message}`);
    }
    if (mine !== run || !good) return;
    finish(step);
  }
  say(run.troubled ? 'Done, with problems.' : 'Done.');
}

const finish = (step) => { if (step.item.className === 'now') step.state('done'); };

/** Removes the output of a run and moves the viewer back to the end of the page. */
function clear() {
  viewer.hidden = true;
  steps.parentElement.append(viewer);
  steps.replaceChildren();
}

function begin(o) {
  run = { options: o, base: baseOf(o), began: Date.now() };
  clear();
  document.getElementById('again').hidden = false;
  go(0);
}

/** Continues a run after the patient has signed in. */
async function comeBack(kept, q) {
  history.replaceState(null, '', '/'); // so that a reload does not send the code again
  run = { ...kept, base: baseOf(kept.options) };
  fill(kept.options);
  document.getElementById('again').hidden = false;
  const first = open(plan[0]);
  first.body.append(wire({ method: 'GET', url: `${run.base}/.well-known/smart-configuration`, headers: { Accept: 'application/json' } }, { ...kept.discovery, headers: new Headers(kept.discovery.headers) }));
  finish(first);
  const step = open(plan[1]);
  if (await plan[1].back(step, q)) {
    finish(step);
    go(2);
  }
}

function fill(o) {
  for (const name of ['what', 'variant', 'secret', 'types']) form.elements[name].value = o[name];
  for (const box of form.querySelectorAll('[name=fault]')) box.checked = o.faults.includes(box.value);
  form.elements.automatic.checked = o.automatic;
  change();
}

function change() {
  const o = options();
  document.getElementById('base').textContent = baseOf(o);
  for (const e of form.querySelectorAll('[data-for=service]')) e.hidden = o.what === 'patient';
}

form.hidden = false;
form.addEventListener('input', change);
form.addEventListener('submit', (e) => {
  e.preventDefault();
  begin(options());
});
document.getElementById('again').addEventListener('click', () => {
  run = null;
  sessionStorage.removeItem(keep);
  clear();
  document.getElementById('again').hidden = true;
  say('');
});

const query = new URLSearchParams(location.search);
for (const f of query.getAll('fault').flatMap((v) => v.split(/[+, ]/))) {
  const box = [...form.querySelectorAll('[name=fault]')].find((e) => e.value === f);
  if (box) box.checked = true;
}
const kept = sessionStorage.getItem(keep);
if (kept && (query.has('code') || query.has('error'))) comeBack(JSON.parse(kept), query);
else change();
