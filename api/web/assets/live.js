// What pages that follow changes share: a page is renewed, but never under whoever works on it.

const changed = (e) => {
  if (e.dataset.typed !== undefined) return true; // brought back by the server
  if (e.type === 'checkbox' || e.type === 'radio') return e.checked !== e.defaultChecked;
  if (e.type === 'file') return e.files.length > 0;
  if (e.tagName !== 'SELECT') return e.type !== 'hidden' && e.value !== e.defaultValue;
  const options = [...e.options], preset = options.filter((o) => o.defaultSelected);
  return options.some((o) => o.selected && !(preset.length ? preset.includes(o) : o === options[0]));
};

/**
 * Whether a part of the page is in use: something is typed, ticked or chosen, a form has the focus or is unfolded,
 * text is marked, a message [data-keep] is shown, or an upload runs [data-busy].
 */
export function edited(root) {
  const at = document.activeElement, marked = getSelection();
  return Boolean((at?.form && root.contains(at)) || root.querySelector('dialog[open], details[open] form, [data-busy], [data-keep]:not(:empty)')
    || (marked && !marked.isCollapsed && root.contains(marked.anchorNode)) || [...root.querySelectorAll('input, textarea, select')].some(changed));
}

/** Loads this page anew and gives its document; null where that leads elsewhere, such as to the sign-in. */
export async function load() {
  const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, redirect: 'manual', cache: 'no-store' });
  if (answer.type === 'opaqueredirect') return null;
  if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

/** What state of things a page shows: another revision is another state. */
export const revision = (root) => root.querySelector('[data-revision]')?.dataset.revision ?? root.dataset?.revision;

/** The element of a fresh part that corresponds to one of the old part. */
function same(e, old, fresh) {
  if (e.id) return fresh.querySelector(`#${CSS.escape(e.id)}`);
  const label = e.getAttribute('href') ?? e.getAttribute('aria-label') ?? e.textContent;
  const like = (root) => [...root.querySelectorAll(e.tagName)].filter((o) => (o.getAttribute('href') ?? o.getAttribute('aria-label') ?? o.textContent) === label && o.value === e.value);
  return like(fresh)[like(old).indexOf(e)];
}

/** Puts a fresh part in the place of an old one; the focus, what is unfolded, typed, ticked or chosen, messages and scrolling stay. */
export function swap(old, fresh) {
  const at = old.contains(document.activeElement) ? document.activeElement : null;
  const next = at && same(at, old, fresh);
  for (const e of old.querySelectorAll('input, textarea, select')) {
    const now = changed(e) && same(e, old, fresh);
    if (!now) continue;
    if (e.type === 'file') now.replaceWith(e); // its files cannot be written to another
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

/** Says that the page has changed meanwhile, and loads it at the press of a button; what is typed stays. */
export function notice(again) {
  const place = document.querySelector('[data-changed]');
  if (!place) return;
  place.hidden = false;
  place.querySelector('button').onclick = async () => {
    await again();
    place.hidden = true;
  };
}
