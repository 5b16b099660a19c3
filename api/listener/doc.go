// Package listener accepts the connections of the HTTP server and protects it from clients that
// open too many of them or read too slowly.
//
// Conns limits how many connections are open, in all and for each address, and closes idle ones to
// make room. The connections that it accepts are cut if their client stops reading its answers.
// HangUps tells when a client closes a connection that nobody reads from.
//
// The package knows bytes and addresses only. It never looks at requests, users or exports. Package
// server runs Fiber on what Conns.Listen returns; held status requests use HangUps.
package listener
