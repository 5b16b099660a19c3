// The developer's console: a whole export as a SMART client runs it, in the browser.
import { base64url, el, hex, random, send, sha256, size, wire } from './wire.js';
import { openViewer } from './viewer.js';

const client = 'test_client_id'; // of the sandbox: public with PKCE for patients, by its secret for backend services
const redirect = `${location.origin}/`;
const keep = 'ehi-console'; // what lasts over the way to the sign-in and back
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

const form = document.getElementById('setup'), steps = document.getElementById('steps'), news = document.getElementById('news'), viewer = document.getElementById('viewer');
let run = null; // of the present run: {options, base, token, ...}

/** What the form says. */
function options() {
  const d = new FormData(form);
  return { what: d.get('what'), variant: d.get('variant'), secret: d.get('secret'), types: d.get('types').trim(), faults: d.getAll('fault'), automatic: d.has('automatic') };
}

const baseOf = (o) => `${location.origin}${o.faults.length ? `/faulty/${o.faults.join('+')}` : ''}${o.variant}/fhir`;

/** Everything that a run does, in order. A step's run() gives true where the next one may begin by itself. */
const plan = [
  {
    title: 'Ask the server what it can do',
    rule: 'SMART App Launch 2.2, conformance: a client finds the endpoints in .well-known/smart-configuration below the FHIR base.',
    async run(step) {
      const answer = await step.exchange({ method: 'GET', url: `${run.base}/.well-known/smart-configuration`, headers: { Accept: 'application/json' } });
      run.endpoints = answer.json;
      run.discovery = { status: answer.status, statusText: answer.statusText, headers: [...answer.headers], text: answer.text, json: answer.json, took: answer.took };
      return step.expect(answer, 200);
    },
  },
  {
    title: 'Let the patient sign in and allow this application',
    only: (o) => o.what === 'patient',
    rule: 'SMART App Launch 2.2, standalone launch; RFC 7636 (PKCE): the page makes a verifier, and sends only its hash. state ties the answer to this run (RFC 6749 10.12).',
    manual: 'Go to the sign-in',
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
      step.body.append(wire({ method: 'GET', url: run.asked }), el('p', {}, 'The browser came back to ', el('code', {}, `${redirect}?${q}`)));
      if (q.get('state') !== run.state) return step.wrong('The answer\'s state is not the one that was sent: it is not of this run.');
      if (!q.get('code')) return step.wrong(`${q.get('error')}: ${q.get('error_description') ?? 'the patient did not allow it'}`);
      run.code = q.get('code');
      return true;
    },
  },
  {
    title: 'Get an access token',
    rule: 'Of a patient\'s application: RFC 6749 4.1.3 with the verifier of RFC 7636 4.5. Of a backend service: RFC 6749 4.4 (in production with a signed assertion: SMART backend services).',
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
    title: 'See whose record it is',
    only: (o) => o.what === 'patient',
    rule: 'SMART App Launch 2.2: the token\'s launch context names the patient.',
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
    rule: 'Bulk Data Access 3.0: a group is a FHIR Group, whose members are its patients.',
    async run(step) {
      const answer = await step.exchange({ method: 'GET', url: `${run.base}/Group`, headers: bearer({ Accept: 'application/fhir+json' }) });
      run.group = answer.json?.entry?.[0]?.resource?.id;
      if (!step.expect(answer, 200)) return false;
      return run.group ? step.say(`Group/${run.group}`) : step.wrong('This server holds no group.');
    },
  },
  {
    title: 'Kick the export off',
    rule: 'Argonaut EHI Export API; FHIR asynchronous pattern: POST with Prefer: respond-async; the answer is 202, and Content-Location is where the status is.',
    async run(step) {
      const path = { patient: `/Patient/${run.patient}/$ehi-export`, patients: '/Patient/$export', group: `/Group/${run.group}/$export`, system: '/$export' }[run.options.what];
      const q = run.options.types ? `?_type=${encodeURIComponent(run.options.types)}` : '';
      const method = run.options.what === 'patient' ? 'POST' : 'GET';
      let answer;
      for (let tries = 0; tries < 5; tries++) {
        answer = await step.exchange({ method, url: `${run.base}${path}${q}`, headers: bearer({ Accept: 'application/fhir+json', Prefer: 'respond-async' }) });
        if (answer.status !== 429 && answer.status !== 503) break;
        await step.countdown(retryAfter(answer, 2), `${answer.status}: asking again`);
      }
      run.status = answer.headers.get('Content-Location');
      const link = answer.headers.get('Link');
      run.form = link && /rel="?patient-interaction"?/.test(link) ? link.match(/<?([^>;]+)>?\s*;/)[1] : null;
      return step.expect(answer, 202);
    },
  },
  {
    title: 'Follow it until the files are there',
    rule: 'FHIR asynchronous pattern: 202 until it is done, then 200 with the manifest. Retry-After says when to ask again; X-Progress is for people. A client that asks sooner may be answered 429.',
    async run(step) {
      const note = el('div', { class: 'decision' });
      step.body.append(note);
      let failures = 0, last = '', shown = null;
      for (;;) {
        const request = { method: 'GET', url: run.status, headers: bearer({ Accept: 'application/json' }) };
        const answer = await send(request);
        if (!inUse(shown)) shown?.remove();
        shown = wire(request, answer);
        shown.addEventListener('click', (e) => { e.currentTarget.dataset.used = ''; }); // also of a summary, by keyboard
        step.body.append(shown);
        const progress = answer.headers.get('X-Progress') ?? '';
        const line = answer.failed ?? `${answer.status} ${progress}`;
        if (line !== last) step.log(line);
        last = line;
        guide(note, progress);
        if (answer.status === 200) {
          if (!answer.json) return step.wrong('The manifest is no JSON.');
          run.manifest = answer.json;
          run.expires = answer.headers.get('Expires');
          return true;
        }
        const temporary = answer.failed || answer.status === 429 || answer.status === 503;
        if (answer.status !== 202 && !temporary) return step.expect(answer, 200);
        failures = temporary ? failures + 1 : 0;
        if (failures > 10) return step.wrong('It failed ten times in a row: a client gives up here.');
        if (!(await step.countdown(retryAfter(answer, 5), answer.status === 202 ? 'asking again' : 'a passing fault; asking again'))) return step.wrong('Stopped. The export goes on without being asked for.');
      }
    },
  },
  {
    title: 'Take the files',
    rule: 'Bulk Data Access: the manifest lists files by type, with their number of resources; where requiresAccessToken is true each download carries the token. NDJSON: one resource a line. A file that breaks off is shorter than its Content-Length: fetch it again.',
    async run(step) {
      const m = run.manifest;
      const entries = [...(m.output ?? []).map((f) => ({ ...f, kind: f.type })), ...(m.error ?? []).map((f) => ({ ...f, kind: `error: ${f.type}` }))];
      step.say(`As of ${m.transactionTime}, ${entries.length} files. The format: `);
      const docs = (m.extension?.ehiDocumentationUrl ?? '/docs/ehi');
      step.body.lastElementChild.append(el('a', { href: docs, target: '_blank', rel: 'noopener' }, docs));
      const expires = Date.parse(run.expires ?? '');
      if (expires < Date.now()) step.partly(`The files expired at ${run.expires}: the server need not have them any more.`);
      const files = entries.map((f) => ({ name: f.url.split('/').pop(), type: f.type, url: f.url, load: once(() => fetchLines(step, f, files.find((x) => x.url === f.url))) }));
      const show = openViewer(viewer, files);
      const mine = run;
      step.body.append(el('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Files' }, el('table', {},
        el('thead', {}, el('tr', {}, ...['Type', 'File', 'Resources', 'Size', 'SHA-256', 'Download', ''].map((t) => el('th', { scope: 'col' }, t)))),
        el('tbody', {}, ...entries.map((f, i) => {
          const length = el('td', { class: 'number' }), hash = el('td', {}), state = el('td', {}, 'waits');
          files[i].told = (bytes, digest) => {
            length.textContent = size(bytes);
            hash.replaceChildren(el('code', { title: digest ?? '' }, digest ? `${digest.slice(0, 8)}…` : 'https only'));
            if (!run.first) {
              run.first = true;
              say(`The first file was here ${((Date.now() - run.began) / 1000).toFixed(1)} seconds after the run began.`);
            }
          };
          files[i].state = (text, bad) => {
            state.textContent = text;
            state.className = bad ? 'wrong' : '';
          };
          return el('tr', {}, el('td', {}, f.kind), el('td', {}, files[i].name), el('td', { class: 'number' }, String(f.count ?? '')), length, hash, state,
            el('td', {}, el('button', { type: 'button', class: 'link', 'aria-label': `Look into ${files[i].name}`, click: () => show(files[i]).catch((e) => say(e.message)) }, 'Look')));
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
    rule: 'FHIR asynchronous pattern: DELETE at the status URL tells the server that the files are not wanted any more; it answers 202, and 404 from then on.',
    manual: 'Delete it',
    async run(step) {
      const answer = await step.exchange({ method: 'DELETE', url: run.status, headers: bearer({ Accept: 'application/fhir+json' }) });
      return step.expect(answer, 202);
    },
  },
  {
    title: 'Give the token back',
    rule: 'RFC 7009: a client that is done revokes its token. It is refused at once, at every process of the server.',
    async run(step) {
      const body = { token: run.token, client_id: client };
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
      if (run.options.what !== 'patient') headers.Authorization = `Basic ${btoa(`${encodeURIComponent(client)}:${encodeURIComponent(run.options.secret)}`)}`;
      const answer = await step.exchange({ method: 'POST', url: run.endpoints.revocation_endpoint, headers, body: new URLSearchParams(body).toString() });
      sessionStorage.removeItem(keep);
      if (!step.expect(answer, 200)) return false;
      return step.say(run.troubled ? 'That was a run with trouble on the way: its steps say which.' : 'That was a whole export.');
    },
  },
];

const bearer = (headers) => ({ Authorization: `Bearer ${run.token}`, ...headers });
/** Whether somebody looks into a request that is shown: it is not taken away then. */
const inUse = (shown) => Boolean(shown) && (shown.dataset.used !== undefined || shown.contains(document.activeElement) || (!getSelection().isCollapsed && shown.contains(getSelection().anchorNode)));
const once = (f) => { let made; return () => (made ??= f().catch((e) => { made = undefined; throw e; })); };
const say = (text) => { news.textContent = text; };

/** Retry-After in seconds: it may be a number or a date (RFC 9110 10.2.3). */
function retryAfter(answer, otherwise) {
  const v = answer.headers.get('Retry-After');
  if (!v) return otherwise;
  if (/^\d+$/.test(v)) return Number(v);
  const until = (Date.parse(v) - Date.now()) / 1000;
  return Number.isFinite(until) ? Math.max(0, until) : otherwise;
}

/** Says who has to do something, while a person does. */
function guide(note, progress) {
  const job = run.status.split('/').at(-2);
  if (progress.startsWith('awaiting-input')) {
    note.replaceChildren(el('p', {}, 'The patient has to choose what goes out. ', el('a', { class: 'button', href: run.form ?? `/jobs/${job}/customize`, target: '_blank', rel: 'noopener' }, 'Open the form in a new tab')));
  } else if (progress.startsWith('retrieved')) {
    note.replaceChildren(el('p', {}, 'An administrator has to review it. ', el('a', { class: 'button', href: `/admin/ui/jobs/${job}`, target: '_blank', rel: 'noopener' }, 'Review it in a new tab')));
  } else note.replaceChildren();
}

/** The most that is taken of a file, and of all of them together. */
const mostBytes = 32e6;

/** Downloads a file of the manifest, and notes in its row and in the sum what came of it. */
async function take(file, entry, sum) {
  if ((sum.bytes ?? 0) > mostBytes) {
    sum.left++;
    file.state('not asked for');
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
    file.state('its beginning');
  } else if (entry.count !== undefined && entry.count !== got.lines.length) {
    sum.wrong++;
    file.state(`${got.lines.length} resources, not ${entry.count}`, true);
  } else {
    sum.whole++;
    file.state('whole');
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

/** Says what came of all downloads. The run goes on: an export is to be deleted however it went. */
function report(step, all, sum) {
  const told = Object.entries(sum.outcomes).map(([severity, n]) => `${n} of severity ${severity}`).join(', ');
  if (told) (sum.outcomes.error || sum.outcomes.fatal ? step.partly : step.say)(`The server reports of this export: ${told}.`);
  if (sum.wrong) step.wrong(`${sum.wrong} of ${all} files hold another number of resources than the manifest says.`);
  if (sum.failed.length) step.wrong(`${sum.failed.length} of ${all} files could not be downloaded. ${sum.failed[0]}`);
  if (sum.left) step.say(`${sum.left} of ${all} files were not taken to their end: this page takes ${size(mostBytes)} at most.`);
  return step.say(sum.whole === all ? `All ${all} files are here, with as many resources as the manifest says.` : `${sum.whole} of ${all} files are here as the manifest says.`);
}

/** Downloads a file for the viewer: again where it breaks off, and only its beginning where it is very large. */
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
      if (tries === 3 || answer && !answer.ok && !passing) throw new Error(`${file.name} cannot be had: ${e.message}`);
      step.log(`${file.name}: asking for it again`);
      await wait(passing ? retryAfter(answer, 1) * 1000 : 500);
      continue;
    }
    const whole = new Uint8Array(await new Blob(parts).arrayBuffer());
    const digest = cut ? null : await sha256(whole);
    file.told(bytes, digest && hex(digest));
    const lines = new TextDecoder().decode(whole).split('\n').filter((l) => l !== '');
    const wrong = !cut && f.count !== undefined && f.count !== lines.length ? ` The manifest says ${f.count} resources, but there are ${lines.length}.` : '';
    return { lines, bytes, cut, note: (cut ? `Only the first ${size(bytes)} are shown.` : '') + wrong };
  }
}

/** Shows a step and gives what its run() works with. */
function open(of) {
  const body = el('div', {}), log = el('ul', { class: 'hint' });
  const mark = el('span', { class: 'mark' }, 'now');
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
    /** Says how the step stands: now, done, partly or wrong; what went wrong stays so. */
    state(name) {
      if (item.classList.contains('wrong')) return;
      item.className = name;
      mark.textContent = { now: 'now', done: 'done', partly: 'done in part', wrong: 'went wrong' }[name];
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
      return step.wrong(`Expected ${status}; ${answer.failed ?? `it was ${answer.status}${answer.json?.issue?.[0]?.diagnostics ? `: ${answer.json.issue[0].diagnostics}` : answer.json?.error_description ? `: ${answer.json.error_description}` : ''}`}.`);
    },
    /** Waits, visibly; gives false where the reader stops it. */
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

/** Does the steps from one on; by itself, or at the press of a button. */
async function go(from) {
  const list = plan.filter((p) => !p.only || p.only(run.options));
  for (let i = from; i < list.length; i++) {
    const mine = run;
    const step = open(list[i]);
    if (list[i].manual || !run.options.automatic && i > from) {
      await new Promise((done) => {
        const button = el('button', { type: 'button', click: () => { button.remove(); done(); } }, list[i].manual ?? 'Do it');
        step.body.append(button);
        say(`Next: ${list[i].title}`);
      });
    } else say(list[i].title);
    if (mine !== run) return;
    let good = false;
    try {
      good = await list[i].run(step);
    } catch (e) { // an answer that is not what the rule says
      if (mine === run) step.wrong(`The answer cannot be made sense of: ${e.message}`);
    }
    if (mine !== run || !good) return;
    finish(step);
  }
  say(run.troubled ? 'Done, but not all went well.' : 'Done.');
}

const finish = (step) => { if (step.item.className === 'now') step.state('done'); };

/** Takes away what a run has left; the viewer goes back to the page's end. */
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

/** Goes on behind the sign-in. */
async function comeBack(kept, q) {
  history.replaceState(null, '', '/'); // a reload shall not send the code again
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
