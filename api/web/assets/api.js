// The API reference: shows the OpenAPI document and lets readers try each operation.
import { el, send, wire } from './wire.js';

const place = document.getElementById('operations'), bearer = document.getElementById('bearer'), find = document.getElementById('find'), form = document.getElementById('token');

/** Resolves a $ref within the document. */
const resolve = (doc, o) => (o?.$ref ? o.$ref.slice(2).split('/').reduce((at, key) => at[key.replaceAll('~1', '/')], doc) : o);

/** Describes a schema in a few words. */
function shape(doc, schema, depth = 0) {
  const s = resolve(doc, schema);
  if (!s) return '';
  if (s.enum) return s.enum.join(' | ');
  if (s.type === 'array') return `[${shape(doc, s.items, depth + 1)}]`;
  if (s.properties && depth < 2) return `{ ${Object.entries(s.properties).map(([k, v]) => `${k}: ${shape(doc, v, depth + 1)}`).join(', ')} }`;
  return [s.type].flat().filter(Boolean).join(' or ') || 'anything';
}

function tryOut(doc, path, method, op, params, body) {
  const out = el('div', { 'aria-live': 'polite' });
  const id = (name) => `${op.operationId}-${name}`;
  const fields = params.filter((p) => p.in !== 'header').map((p) => el('p', {}, el('label', { for: id(p.name) }, `${p.name} (${p.in})`), el('input', { type: 'text', id: id(p.name), autocomplete: 'off', spellcheck: 'false' })));
  if (body) fields.push(el('p', {}, el('label', { for: id('body') }, `Body: ${body}`), el('textarea', { id: id('body'), rows: '4', spellcheck: 'false' })));
  return el('form', {
    submit: async (e) => {
      e.preventDefault();
      const value = (name) => document.getElementById(id(name))?.value ?? '';
      const query = new URLSearchParams(params.filter((p) => p.in === 'query' && value(p.name)).map((p) => [p.name, value(p.name)]));
      const url = location.origin + path.replace(/\{([^}]+)\}/g, (_, name) => encodeURIComponent(value(name))) + (query.size ? `?${query}` : '');
      const headers = { Accept: Object.values(op.responses).map((a) => Object.keys(resolve(doc, a).content ?? {})[0]).find(Boolean) ?? '*/*' };
      if (bearer.value && (op.security ?? []).some((s) => 'bearer' in s)) headers.Authorization = `Bearer ${bearer.value}`;
      if (path.includes('export')) headers.Prefer = 'respond-async';
      const request = { method: method.toUpperCase(), url, headers };
      if (body && value('body')) {
        request.body = value('body');
        headers['Content-Type'] = body;
      }
      out.replaceChildren(el('p', {}, 'Sending…'));
      const answer = await send(request);
      out.replaceChildren(wire(request, answer));
      out.querySelectorAll('details')[1]?.setAttribute('open', '');
    },
  }, ...fields, el('p', {}, el('button', { type: 'submit', class: 'secondary' }, 'Try it')), out);
}

function operation(doc, path, method, op, shared) {
  const params = [...(shared ?? []), ...(op.parameters ?? [])].map((p) => resolve(doc, p));
  const body = Object.keys(resolve(doc, op.requestBody)?.content ?? {})[0];
  const rows = (list, cells) => el('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': cells[0] }, el('table', {}, el('thead', {}, el('tr', {}, ...cells.map((c) => el('th', { scope: 'col' }, c)))), el('tbody', {}, ...list)));
  const inside = el('div', {});
  const d = el('details', {
    class: 'operation', toggle: () => {
      if (!d.open || inside.childElementCount) return;
      const security = (op.security ?? []).flatMap((s) => Object.keys(s));
      inside.append(el('p', { class: 'hint' }, security.length ? `Authentication: ${security.join(' or ')}` : 'No authentication.'));
      if (params.length) inside.append(rows(params.map((p) => el('tr', {}, el('td', {}, el('code', {}, p.name)), el('td', {}, p.in), el('td', {}, [p.description, shape(doc, p.schema)].filter(Boolean).join(' ')))), ['Parameter', 'In', 'Description']));
      inside.append(rows(Object.entries(op.responses).map(([status, answer]) => {
        const r = resolve(doc, answer), [type, content] = Object.entries(r.content ?? {})[0] ?? [];
        return el('tr', {}, el('td', {}, status), el('td', {}, r.description), el('td', {}, type ? el('code', {}, `${type} ${content?.schema ? shape(doc, content.schema) : ''}`) : ''));
      }), ['Status', 'Description', 'Body']));
      inside.append(tryOut(doc, path, method, op, params, body));
    },
  }, el('summary', {}, el('span', { class: 'method' }, method.toUpperCase()), el('code', {}, path), el('span', {}, op.summary)), inside);
  d.dataset.words = `${method} ${path} ${op.summary}`.toLowerCase();
  return d;
}

async function show() {
  const answer = await fetch('/openapi.json');
  const doc = await answer.json();
  const tags = new Map();
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const method of ['get', 'post', 'put', 'delete']) {
      const op = item[method];
      if (!op) continue;
      const tag = op.tags?.[0] ?? 'Other';
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(operation(doc, path, method, op, item.parameters));
    }
  }
  const last = ['Pages', "Administrators' pages", 'Watching'], first = ['Export', 'Jobs', 'FHIR', 'SMART'];
  const rank = (tag) => (first.includes(tag) ? first.indexOf(tag) : last.includes(tag) ? 200 + last.indexOf(tag) : 100);
  place.replaceChildren(...[...tags].sort(([a], [b]) => rank(a) - rank(b)).map(([tag, list]) => el('section', {}, el('h2', {}, tag), ...list)));
}

find.addEventListener('input', () => {
  for (const section of place.children) {
    let any = false;
    for (const d of section.querySelectorAll('.operation')) {
      d.hidden = !d.dataset.words.includes(find.value.toLowerCase());
      any ||= !d.hidden;
    }
    section.hidden = !any;
  }
});
form.hidden = false;
form.addEventListener('submit', async (e) => {
  e.preventDefault();
  if (!form.querySelector('button')) return; // only the sandbox has a known client secret
  const answer = await send({
    method: 'POST', url: `${location.origin}/auth/token`, body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'system/*.rs system/$ehi-export' }).toString(),
    headers: { 'Content-Type': 'application/x-www-form-urlencoded', Authorization: `Basic ${btoa('test_client_id:test_client_secret')}` },
  });
  bearer.value = answer.json?.access_token ?? '';
  document.getElementById('token-state').textContent = bearer.value ? `Scope: ${answer.json.scope}. Valid for ${answer.json.expires_in} seconds.` : `No token: ${answer.json?.error_description ?? answer.failed ?? answer.status}`;
});
await show();
