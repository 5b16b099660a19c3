// Code that all live pages share: it updates a page, but never the part that a person is using.

const changed = (e) => {
  if (e.dataset.typed !== undefined) return true; // restored by the server
  if (e.type === 'checkbox' || e.type === 'radio') return e.checked !== e.defaultChecked;
  if (e.type === 'file') return e.files.length > 0;
  if (e.tagName !== 'SELECT') return e.type !== 'hidden' && e.value !== e.defaultValue;
  const options = [...e.options], preset = options.filter((o) => o.defaultSelected);
  return options.some((o) => o.selected && !(preset.length ? preset.includes(o) : o === options[0]));
};

/**
 * Reports whether a person is using a part of the page: a field has changed, a form has the focus or
 * is open, text is selected, a message [data-keep] is shown, or an upload is running [data-busy].
 */
export function edited(root) {
  const at = document.activeElement, marked = getSelection();
  return Boolean((at?.form && root.contains(at)) || root.querySelector('dialog[open], details[open] form, [data-busy], [data-keep]:not(:empty)')
    || (marked && !marked.isCollapsed && root.contains(marked.anchorNode)) || [...root.querySelectorAll('input, textarea, select')].some(changed));
}

/**
 * Loads this page again and returns its document, or null after a redirect, for example to sign-
 * in.
 */
export async function load() {
  const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, redirect: 'manual', cache: 'no-store' });
  if (answer.type === 'opaqueredirect') return null;
  if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

/** Returns the revision of what a page shows. It changes with the content. */
export const revision = (root) => root.querySelector('[data-revision]')?.dataset.revision ?? root.dataset?.revision;

/** Returns the element of the new part that corresponds to an element of the old part. */
function same(e, old, fresh) {
  if (e.id) return fresh.querySelector(`#${CSS.escape(e.id)}`);
  const label = e.getAttribute('href') ?? e.getAttribute('aria-label') ?? e.textContent;
  const like = (root) => [...root.querySelectorAll(e.tagName)].filter((o) => (o.getAttribute('href') ?? o.getAttribute('aria-label') ?? o.textContent) === label && o.value === e.value);
  return like(fresh)[like(old).indexOf(e)];
}

/**
 * Replaces the old part with the new one. It keeps the focus, input, open details, messages and
 * scroll positions.
 */
export function swap(old, fresh) {
  const at = old.contains(document.activeElement) ? document.activeElement : null;
  const next = at && same(at, old, fresh);
  for (const e of old.querySelectorAll('input, textarea, select')) {
    const now = changed(e) && same(e, old, fresh);
    if (!now) continue;
    if (e.type === 'file') now.replaceWith(e); // scripts cannot copy the chosen files
    else if (e.type === 'checkbox' || e.type === 'radio') now.checked = e.checked;
    else now.value = e.value;
    if (e.dataset.typed !== undefined) now.dataset.typed = '';
  }
  const kept = [...old.querySelectorAll('[data-flash], [data-keep]:not(:empty)')];
  for (const e of old.querySelectorAll('details[open] > summary')) same(e, old, fresh)?.parentElement.setAttribute('open', '');
  const aside = [...old.querySelectorAll('[tabindex="0"]')].filter((e) => e.scrollLeft || e.scrollTop).map((e) => [same(e, old, fresh), e.scrollLeft, e.scrollTop]);
  for (const e of kept) {
    if (e.dataset.flash !== undefined) fresh.querySelector('h1')?.after(e);
    else fresh.querySelector(`[data-keep="${e.dataset.keep}"]`)?.replaceWith(e);
  }
  old.replaceWith(fresh);
  for (const [e, left, top] of aside) e?.scrollTo(left, top);
  (next?.isConnected ? next : at?.id && document.getElementById(at.id))?.focus({ preventScroll: true });
}

/** Shows that the page has changed. The button loads the changes and keeps the input. */
export function notice(again) {
  const place = document.querySelector('[data-changed]');
  if (!place) return;
  place.hidden = false;
  place.querySelector('button').onclick = async () => {
    await again();
    place.hidden = true;
  };
}
