// The documentation of the format: lists the tables that a search finds while it is typed.
const search = document.getElementById('q');
let asked = new AbortController();

/** Shows what the page of a search says, unless another one begins before that. */
async function find() {
  asked.abort();
  asked = new AbortController();
  const answer = await fetch(`/docs/ehi?${new URLSearchParams({ q: search.value })}`, { signal: asked.signal });
  if (!answer.ok) return; // the button tells why
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const id of ['found', 'list']) {
    document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
  }
}

search?.addEventListener('input', () => find().catch((e) => {
  if (e.name !== 'AbortError') throw e;
}));
