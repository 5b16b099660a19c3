// Code that the console and the API reference share: elements, requests and responses, curl
// commands.

/**
 * Creates an element. Functions become listeners. Attributes that are false or null are left out.
 */
export function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') e.addEventListener(key, value);
    else if (value === true) e.setAttribute(key, '');
    else if (value !== false && value != null) e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

const shell = (s) => `'${s.replaceAll("'", `'\\''`)}'`;

/** Returns the curl command for a request. */
export function curl({ method, url, headers = {}, body }) {
  const parts = ['curl -i'];
  if (method !== 'GET') parts.push(`-X ${method}`);
  parts.push(shell(url));
  for (const [k, v] of Object.entries(headers)) parts.push(`-H ${shell(`${k}: ${v}`)}`);
  if (body != null) parts.push(`--data ${shell(String(body))}`);
  return parts.join(' ');
}

/** The largest number of characters of a body to show. */
const most = 20000;

/** Sends a request. Returns {status, headers, text, json}, or {failed} if there is no response. */
export async function send(request) {
  let answer;
  const began = performance.now();
  try {
    answer = await fetch(request.url, { method: request.method, headers: request.headers, body: request.body, cache: 'no-store', redirect: request.redirect ?? 'follow' });
  } catch (e) {
    return { failed: `no response: ${e.message}`, headers: new Headers(), took: performance.now() - began };
  }
  const out = { status: answer.status, statusText: answer.statusText, headers: answer.headers };
  try {
    out.text = await answer.text();
  } catch (e) {
    out.text = '';
    out.failed = `the response broke off: ${e.message}`;
  }
  out.took = performance.now() - began;
  try {
    out.json = JSON.parse(out.text);
  } catch {
    // not JSON
  }
  return out;
}

function laidOut(text, json) {
  const shown = json === undefined ? text : JSON.stringify(json, null, 2);
  return shown.length > most ? `${shown.slice(0, most)}\n… ${shown.length - most} more characters` : shown;
}

/** Shows a request and its response. */
export function wire(request, answer) {
  const sent = [`${request.method} ${request.url}`, ...Object.entries(request.headers ?? {}).map(([k, v]) => `${k}: ${v}`)];
  const body = request.body == null ? '' : `\n\n${laidOut(String(request.body))}`;
  const line = curl(request);
  const copy = el('button', { type: 'button', class: 'link', click: () => navigator.clipboard.writeText(line).then(() => { copy.textContent = 'Copied'; }, () => { copy.textContent = 'Copying failed. Select the text to copy it.'; }) }, 'Copy');
  const out = el('div', { class: 'wire' },
    el('details', {}, el('summary', {}, `Request: ${request.method} ${new URL(request.url, location.href).pathname}`), el('pre', { tabindex: '0' }, sent.join('\n') + body), el('p', {}, 'curl command ', copy), el('pre', { tabindex: '0' }, line)));
  if (answer) {
    const good = answer.status && answer.status < 400 && !answer.failed;
    const status = answer.status ? `${answer.status} ${answer.statusText}` : '';
    const head = [...answer.headers].map(([k, v]) => `${k}: ${v}`).join('\n');
    out.append(el('details', { open: !good },
      el('summary', {}, 'Response: ', el('span', { class: `status ${good ? 'good' : 'bad'}` }, [status, answer.failed].filter(Boolean).join(', ')), ` in ${Math.round(answer.took)} ms`),
      el('pre', { tabindex: '0' }, `${status}\n${head}\n\n${laidOut(answer.text ?? '', answer.json)}`)));
  }
  return out;
}

/** base64url without padding (RFC 7636 appendix A). */
export function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** Returns a random text of 256 bits. */
export const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** Returns the SHA-256 of bytes, or null: browsers allow it only with https and on loopback. */
export async function sha256(bytes) {
  return crypto.subtle ? new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)) : null;
}

export const hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('');

export function size(n) {
  for (const [unit, s] of [['GB', 1e9], ['MB', 1e6], ['KB', 1e3]]) if (n >= s) return `${(n / s).toFixed(1)} ${unit}`;
  return `${n} bytes`;
}
