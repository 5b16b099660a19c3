// What each client tells the test that started it, as its last line.

// A tally of downloaded NDJSON files.
export class Tally {
  counts = {};
  files = 0;

  add(text) {
    this.files++;
    for (const line of text.split("\n").slice(0, -1)) {
      const { resourceType } = JSON.parse(line);
      this.counts[resourceType] = (this.counts[resourceType] ?? 0) + 1;
    }
  }

  tell(more) {
    console.log(JSON.stringify({ counts: this.counts, files: this.files, ...more }));
  }
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
