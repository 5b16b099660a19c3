// Package listener accepts the connections of the HTTP server and protects it from clients that
// open too many of them or read too slowly.
//
// Conns limits the number of open connections, in total and per address, and closes idle ones to
// make room. It closes connections whose clients stop reading. HangUps reports when a client
// closes a connection that nobody is reading from.
//
// The package knows only bytes and addresses, not requests, users or exports. Package server
// runs Fiber on the listener of Conns.Listen; held status requests use HangUps.
package listener
