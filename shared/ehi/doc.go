// Package ehi is the domain: what an export job is, which states it passes through, what a
// patient may choose to release and what a client learns when the export is complete. Its types
// are pure values: nothing here does I/O, reads a clock or depends on HTTP, NATS or disks. All
// other packages use these types.
package ehi
