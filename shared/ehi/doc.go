// Package ehi is the domain: what an export job is, which states it passes through, what a
// patient may choose to release and what a client is told when all is done. Its types are pure
// values; nothing here does I/O, reads a clock or knows of HTTP, NATS or disks. Every other
// package of the server speaks in these words.
package ehi
