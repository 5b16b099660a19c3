// The administrators' pages work without this; with it they follow changes as they happen, take dropped documents, and are quicker by keyboard.

const words = {
  'awaiting-input': 'Waits for the patient', requested: 'Running', retrieved: 'Waits for review', approved: 'Approved', rejected: 'Rejected', failed: 'Failed',
};
const state = document.querySelector('[data-live-state]');

/** Says how the page learns of changes; nothing while all is well. */
function say(text) {
  if (!state) return;
  state.textContent = text;
  state.hidden = text === '';
}

/** Loads this page again and puts the part that a selector names in the place of the one that is shown; what is ticked, written or opened stays. */
async function renew(selector) {
  const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, redirect: 'error' });
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector(selector);
  const old = document.querySelector(selector);
  if (!fresh || !old) return;
  const ticked = new Set([...old.querySelectorAll('input:checked')].map((e) => e.value));
  const written = new Map([...old.querySelectorAll('input[type=text], textarea')].map((e) => [e.id, e.value]));
  const opened = new Set([...old.querySelectorAll('details[open] > summary')].map((e) => e.textContent));
  const at = old.contains(document.activeElement) ? document.activeElement : null;
  for (const e of fresh.querySelectorAll('input[type=checkbox]')) e.checked = ticked.has(e.value);
  for (const e of fresh.querySelectorAll('input[type=text], textarea')) if (written.get(e.id)) e.value = written.get(e.id);
  for (const e of fresh.querySelectorAll('details > summary')) if (opened.has(e.textContent)) e.parentElement.open = true;
  old.replaceWith(fresh);
  arrange(fresh);
  if (at) {
    const same = at.id ? document.getElementById(at.id) : [...fresh.querySelectorAll(at.tagName)].find((e) => e.getAttribute('href') === at.getAttribute('href') && e.value === at.value);
    same?.focus({ preventScroll: true });
  }
}

/** Calls f some time after it was asked to, once however often that was, and at most every `rest` ms. */
function calm(f, wait, rest) {
  let timer = null, last = -rest;
  return () => {
    if (timer) return;
    timer = setTimeout(async () => {
      timer = null;
      last = performance.now();
      try {
        await f();
      } catch {
        say('The server does not answer. Trying again.');
      }
    }, Math.max(wait, last + rest - performance.now()));
  };
}

/** Follows the server's events; where they do not come, it asks every ten seconds. */
function follow(onJobs, onAnew) {
  let polls = null;
  const poll = () => { polls ??= setInterval(onAnew, 10000); };
  if (!window.EventSource) return poll();
  const source = new EventSource('/admin/ui/events');
  let opened = false;
  source.addEventListener('open', () => {
    say('');
    clearInterval(polls);
    polls = null;
    if (opened) onAnew(); // what happened meanwhile
    opened = true;
  });
  source.addEventListener('jobs', (e) => onJobs(JSON.parse(e.data)));
  source.addEventListener('error', () => {
    say('Changes are not shown as they happen at the moment.');
    poll();
  });
  window.addEventListener('pagehide', () => source.close());
}

function followList(table) {
  const again = calm(() => renew('main'), 1000 + Math.random() * 1000, 5000);
  follow((news) => {
    let other = Boolean(news.many);
    for (const job of news.jobs ?? []) {
      const row = document.querySelector(`tr[data-job="${CSS.escape(job.id)}"]`);
      if (!row) {
        other = true;
        continue;
      }
      const mark = row.querySelector('[data-state]');
      if (row.dataset.status !== job.status) {
        row.dataset.status = job.status ?? 'aborted';
        mark.className = `mark ${job.status ?? ''}`;
        mark.textContent = words[job.status] ?? 'Deleted';
        other = true; // counts, boxes and ages change with it
      }
      const bar = row.querySelector('progress');
      if (bar && job.percent) bar.value = job.percent;
    }
    if (other) again();
  }, again);
}

function followJob(part) {
  const id = part.dataset.jobPage;
  const again = calm(() => renew('main'), 300, 1000);
  follow((news) => {
    if (news.many || (news.jobs ?? []).some((job) => job.id === id)) again();
  }, again);
}

/** The list by keyboard: arrows or j and k from one export to the next, x ticks; only while the focus is in the list (WCAG 2.1.4). */
function keys(table) {
  table.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const rows = [...table.querySelectorAll('tbody tr[data-job]')];
    const now = rows.indexOf(document.activeElement.closest('tr'));
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[e.key];
    if (step) {
      rows[Math.min(rows.length - 1, Math.max(0, now + step))]?.querySelector('a').focus();
      e.preventDefault();
    } else if (e.key === 'x' && now >= 0) {
      rows[now].querySelector('input[type=checkbox]')?.click();
      e.preventDefault();
    }
  });
}

function upload(form) {
  const bar = form.querySelector('progress'), text = form.querySelector('[data-upload-state]'), input = form.querySelector('input[type=file]');
  form.querySelector('label').append(', or drop them here');
  const send = (files) => {
    if (!files.length) return;
    const body = new FormData();
    for (const file of files) body.append('attachments', file);
    const request = new XMLHttpRequest(); // fetch does not tell how much of a body is sent
    request.open('POST', form.action);
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (e) => { if (e.lengthComputable) bar.value = (100 * e.loaded) / e.total; });
    request.addEventListener('loadend', () => {
      bar.hidden = true;
      if (request.status === 200) {
        renew('main').catch(() => location.reload());
        return;
      }
      let why = 'the connection broke off';
      try {
        why = JSON.parse(request.responseText).error;
      } catch {
        // no answer that could be read
      }
      text.textContent = `Not uploaded: ${why}`;
    });
    bar.value = 0;
    bar.hidden = false;
    text.textContent = `Uploading ${files.length === 1 ? files[0].name : `${files.length} documents`}`;
    request.send(body);
  };
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    send([...input.files]);
  });
  for (const name of ['dragenter', 'dragover']) form.addEventListener(name, (e) => { e.preventDefault(); form.classList.add('over'); });
  for (const name of ['dragleave', 'drop']) form.addEventListener(name, () => form.classList.remove('over'));
  form.addEventListener('drop', (e) => {
    e.preventDefault();
    send([...e.dataTransfer.files]);
  });
}

/** Gives what is new on the page its behaviour. */
function arrange(root) {
  for (const table of root.querySelectorAll('[data-jobs]')) {
    keys(table);
    const all = table.querySelector('[data-all]');
    if (all) {
      all.hidden = false;
      all.addEventListener('change', () => { for (const e of table.querySelectorAll('tbody input[type=checkbox]')) e.checked = all.checked; });
    }
  }
  for (const form of root.querySelectorAll('[data-upload]')) upload(form);
}

arrange(document);
if (document.querySelector('[data-jobs]')) followList();
for (const part of document.querySelectorAll('[data-job-page]')) followJob(part);
for (const part of document.querySelectorAll('[data-again]')) {
  const again = calm(() => renew('main').then(() => say('')), 0, Number(part.dataset.again));
  setInterval(again, Number(part.dataset.again));
}
